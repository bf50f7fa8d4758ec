"""How far a share of so many test images may lie from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance

FEW_IMAGES = 50
"""Below this many test images a score is told with its interval."""


def mean(values: Sequence[float]) -> float:
    """Mean of at least one value; infinite or NaN where the values are."""
    return fmean(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


def square_spread(values: Sequence[float]) -> float:
    """Variance of two values or more; NaN where one is not finite, which ``statistics`` refuses."""
    return variance(values) if all(map(math.isfinite, values)) else math.nan


def wilson(share: float, count: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (E. B. Wilson, 1927).

    Of values between 0 and 1 with this mean, those that are 0 or 1 spread most, so that it is wide
    enough for the mean of any such values.

    Args:
        share: Mean, 0 to 1.
        count: Number of values, or of as many as say as much; above 0.
        level: Chance that the interval holds the truth.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    inside = share * (1 - share) / count + (z / (2 * count)) ** 2
    half = z / (1 + z * z / count) * math.sqrt(max(inside, 0.0))
    return max(0.0, centre - half), min(1.0, centre + half)
