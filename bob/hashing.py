"""Stable digests of plain data and of files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from bob.regular_files import open_regular


def digest_of(data: Any, *, length: int = 12) -> str:
    """Hex SHA-256 of JSON data with sorted keys, cut to ``length`` characters."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def digest_of_file(path: Path) -> str:
    """Full hex SHA-256 of a regular file's bytes, read in blocks."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_name(text: str) -> str:
    """A name with every character that is awkward in a file name replaced by ``_``.

    Several texts may have one name; see ``own_file_name``.
    """
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", text)


def own_file_name(text: str) -> str:
    """A file name that no other text has: ``file_name``, and a digest where that changed it."""
    name = file_name(text)
    return name if name == text else f"{name}-{digest_of(text, length=8)}"
