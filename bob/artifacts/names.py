"""Names that a file of the ledger and an artifact of MLflow can have everywhere."""

from __future__ import annotations

import re

_NAME_BYTES = 200
_PART = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]+")

REFUSED = "its name cannot be that of a file everywhere"


def is_artifact_name(name: str) -> bool:
    """Whether a name is relative, with forward slashes, and stays in its folder."""
    plain = all(_PART.fullmatch(part) and part.strip(". ") for part in name.split("/"))
    return plain and len(name.encode(errors="replace")) <= _NAME_BYTES and name.isprintable()
