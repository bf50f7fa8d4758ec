"""Values of a COCO-format file, and the error of one that is of no use.

Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bob.errors import BobError

_LARGEST = 1e9


def whole(value: Any) -> bool:
    """Whether a value of JSON is a whole number; ``true`` and ``3.0`` are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: Any) -> bool:
    """Whether a value of JSON is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def error_of(source: Path, text: str) -> BobError:
    """The error of an annotation file."""
    return BobError(f"{source}: {text}.", kind="dataset")


def encodable(name: str) -> bool:
    """Whether a text can be a file's name, or be written to one."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def shown(value: Any) -> str:
    """A value as an error shows it."""
    return repr(value)[:80]
