"""Artifacts made one by one, at the one place where one that cannot be made is let go.

A table or a picture is worth less than the result it shows: whatever its making raises costs that
artifact and is told, and the rest stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bob.case import Content
from bob.errors import BobError
from bob.shown import line

_NAME_BYTES = 200
_PART = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]+")


@dataclass(frozen=True)
class Made:
    """Artifacts by name, and what could not be made.

    Attributes:
        files: Those that were made.
        left_out: A remark on each of the others, which names it and the error.
    """

    files: Mapping[str, bytes]
    left_out: tuple[str, ...] = ()


def make(contents: Mapping[str, Content]) -> Made:
    """Make every artifact; one that fails is left out and told.

    Args:
        contents: By name: bytes, or a function that gives them, or none where there is nothing to
            show.
    """
    files: dict[str, bytes] = {}
    left_out = []
    for name, content in contents.items():
        try:
            _check(name)
            made = content() if callable(content) else content
            if made is not None:
                files[name] = bytes(made)
        except Exception as error:
            reason = line(f"{type(error).__name__}: {error}")
            left_out.append(f"{line(name, limit=80)} was left out: {reason}")
    return Made(files, tuple(left_out))


def _check(name: str) -> None:
    """Refuse what cannot be a file of the ledger and an artifact of MLflow's everywhere."""
    parts = name.split("/")
    plain = all(_PART.fullmatch(part) and part.strip(". ") for part in parts)
    if not plain or len(name.encode(errors="replace")) > _NAME_BYTES or not name.isprintable():
        raise BobError("its name cannot be that of a file everywhere")
