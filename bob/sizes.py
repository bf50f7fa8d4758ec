"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from bob.errors import BobError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str, *, what: str = "size") -> int:
    """Bytes of ``500M``, ``20GB``, ``1.5 TiB`` or a plain number (powers of 1024).

    Raises:
        BobError: It is none of these.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise BobError(f"{what} {text!r}: expected a number of bytes such as 500MB or 20GB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def show_size(size: float) -> str:
    """Bytes as ``1.5 GB`` (powers of 1024)."""
    unit = 0
    while size >= 1024 and unit < 4:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {' KMGT'[unit]}B"
