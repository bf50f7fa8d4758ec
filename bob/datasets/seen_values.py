"""What the images of more than 8 bits of one dataset hold, from one look at each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bob.catalog.value_range import ValueRange

FEW_LEVELS = 32
"""Nearly all values within fewer than this many of the 256 levels: the range is told to be odd."""

_QUANTILES = (0.005, 0.995)
_TOP = 65535.0
_SAMPLED = 1024
_KEPT = 1 << 20


@dataclass
class Seen:
    """The values of images of one kind.

    Attributes:
        images: How many there are.
        low: Lowest finite value.
        high: Highest.
    """

    images: int = 0
    low: float = np.inf
    high: float = -np.inf
    _sample: list[NDArray[np.float64]] = field(default_factory=list)
    _kept: int = 0
    _rate: int = _SAMPLED
    _draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, finite: NDArray[Any]) -> None:
        """Take in the finite values of one image."""
        self.images += 1
        if not finite.size:
            return
        self.low = min(self.low, float(finite.min()))
        self.high = max(self.high, float(finite.max()))
        flat = finite.ravel()
        if flat.size > self._rate:
            flat = flat[self._draw.integers(0, flat.size, self._rate)]
        self._sample.append(flat.astype(np.float64))
        self._kept += len(flat)
        if self._kept > _KEPT:  # half of it, and of what each further image adds
            self._sample = [np.concatenate(self._sample)[::2]]
            self._kept = len(self._sample[0])
            self._rate = max(1, self._rate // 2)

    def crowded(self, chosen: ValueRange) -> str:
        """What to say where a range leaves nearly all values a few levels; empty elsewhere.

        Args:
            chosen: Black and white.
        """
        if not self._sample:
            return ""
        values = np.concatenate(self._sample)
        told = _crowded(values, chosen)
        for mark in (self.low, self.high):
            if not told and (mark < 0 or mark == _TOP):  # may stand for "no data"
                told = _crowded(values[values != mark], chosen, f", but for {mark:g},")
        return told


def _crowded(values: NDArray[np.float64], chosen: ValueRange, but_for: str = "") -> str:
    if not values.size:
        return ""
    low, high = np.quantile(values, _QUANTILES, method="inverted_cdf").tolist()
    ends = np.clip([low, high], chosen.low, chosen.high) - chosen.low
    first, last = (ends / (chosen.high - chosen.low or 1.0) * 255).round().tolist()
    levels = int(last - first) + 1
    if low == high or levels >= FEW_LEVELS:
        return ""
    return (
        f"99 % of their values{but_for} fall into {levels} of the 256 levels; "
        f"range={_ends(low, high)} holds those"
    )


def _ends(low: float, high: float) -> str:
    if float(f"{low:g}") < float(f"{high:g}"):
        return f"{low:g}:{high:g}"
    return f"{low!r}:{high!r}"
