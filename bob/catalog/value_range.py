"""``range=LOW:HIGH`` of a dataset: the values that are black and white."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bob.errors import BobError


@dataclass(frozen=True)
class ValueRange:
    """Two values of a pixel; what lies beyond is clipped.

    Attributes:
        low: Black.
        high: White; above ``low``, or equal where an image has one value alone.
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def parse_range(text: str) -> ValueRange | None:
    """A range as ``HIGH`` or ``LOW:HIGH``; none where the text is empty.

    Raises:
        BobError: It is neither, or LOW is not below HIGH.
    """
    if not text:
        return None
    low, colon, high = str(text).rpartition(":")
    try:
        chosen = ValueRange(float(low) if colon else 0.0, float(high))
    except ValueError:
        chosen = ValueRange(math.nan, math.nan)
    if not (math.isfinite(chosen.low) and math.isfinite(chosen.high) and chosen.low < chosen.high):
        raise BobError(
            f"range={text}: expected the values that are black and white as LOW:HIGH, or HIGH "
            "alone, such as range=4095 or range=-1:1."
        )
    return chosen
