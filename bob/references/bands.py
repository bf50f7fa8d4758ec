"""Statistics of a band: where a new mean may lie if nothing has changed.

A reference holds a few seeds, so a band of so many standard deviations around its mean fails far
too often: the mean and the deviation are themselves uncertain. The band here is a prediction
interval for the mean of the new seeds. Its deviation is that of the reference's seeds and of the
new ones, steadied by every reference of the task where these are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, variance

from bob.protocols import Judged

POOL_SEEDS = 4
"""The pooled spread weighs as much as this many further seeds of the case itself: enough to steady
eight seeds, little enough that a calm backbone among restless ones keeps a narrow band."""

DIGITS = 6
"""Digits behind the point that a reference's values are kept with."""

RESOLUTION = 10.0**-DIGITS
"""Smallest difference from a reference's value that is more than the rounding of its file."""

ENOUGH_FREEDOM = 8
"""Degrees of freedom of a case's own seeds from which they alone say how much it spreads: with
every second stage."""


def _angle(value: float) -> float:
    return math.asin(math.sqrt(min(1.0, max(0.0, value))))


def _from_angle(value: float) -> float:
    return math.sin(min(math.pi / 2, max(0.0, value))) ** 2


def _exponential(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


_SCALES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "angular": (_angle, _from_angle),
    "log": (lambda value: math.log(max(value, RESOLUTION)), _exponential),
    "linear": (float, float),
}

_ENDS = {"angular": (0.0, 1.0), "log": (0.0, math.inf), "linear": (-math.inf, math.inf)}
"""Between which values a number of a scale lies."""


def to_scale(metric: Judged, value: float) -> float:
    """A value on the scale where the metric's spread is pooled."""
    return _SCALES[metric.scale][0](value)


def from_scale(metric: Judged, value: float) -> float:
    """Inverse of ``to_scale``."""
    return _SCALES[metric.scale][1](value)


@dataclass(frozen=True)
class Spread:
    """A standard deviation between seeds on a metric's scale.

    Attributes:
        deviation: The standard deviation.
        freedom: Degrees of freedom behind it; 0 when no reference has two seeds.
    """

    deviation: float
    freedom: int


def pool(metric: Judged, groups: Iterable[Sequence[float]]) -> Spread:
    """Spread pooled over the references of a task: root of the weighted mean variance.

    Args:
        metric: Decides the scale.
        groups: Values per seed, one group a reference.
    """
    squares, freedom = 0.0, 0
    for values in groups:
        if len(values) > 1:
            scaled = [to_scale(metric, value) for value in values]
            squares += (len(values) - 1) * variance(scaled)
            freedom += len(values) - 1
    return Spread(math.sqrt(squares / freedom) if freedom else 0.0, freedom)


def floor(metric: Judged, test_size: int) -> float:
    """Smallest credible deviation between seeds, from the size of the test set.

    Independent runs err nearly independently on each sample, so accuracies differ by about
    ``sqrt(p (1 - p) / (2 n))`` (K. Jordan, arXiv 2304.01910), which is ``sqrt(1 / (8 n))`` on the
    angular scale. That holds for proportions alone: a precision averaged over recalls or an area
    under a curve has no such n, and its spread comes from the seeds.

    Args:
        metric: Decides by its unit.
        test_size: Test images; 0 where not known.
    """
    return math.sqrt(1 / (8 * test_size)) if metric.unit == "proportion" and test_size else 0.0


def case_spread(
    metric: Judged,
    values: Sequence[float],
    pooled: Spread,
    test_size: int,
    *,
    fresh: Sequence[float] = (),
) -> Spread:
    """Spread of one case from its reference and the new seeds, and from a pool where these are few.

    An unchanged case's new seeds spread as its reference's do, so that both say how much: the
    restless case beside calm ones is known by its own seeds. Below ``ENOUGH_FREEDOM`` degrees of
    freedom the pool counts as ``POOL_SEEDS`` further seeds. What the pool lacks of them the floor
    stands in for, so that a pool of one small reference is worth no less than none. Where there is
    neither, the spread of a single seed, and with it the band, is unbounded.

    Args:
        metric: Decides the scale.
        values: The reference's, by seed.
        pooled: Spread of the references of its kind.
        test_size: Test images behind each value; 0 where not known.
        fresh: Values of the new seeds.
    """
    squares, freedom = 0.0, 0
    for group in (values, fresh):
        if len(group) > 1:
            squares += (len(group) - 1) * variance([to_scale(metric, value) for value in group])
            freedom += len(group) - 1
    if freedom < ENOUGH_FREEDOM:
        least = floor(metric, test_size)
        prior = min(POOL_SEEDS, pooled.freedom)
        lacking = POOL_SEEDS - prior if least else 0
        squares += prior * pooled.deviation**2 + lacking * least**2
        freedom += prior + lacking
    return Spread(math.sqrt(squares / freedom), freedom) if freedom else Spread(math.inf, 0)


@lru_cache(maxsize=256)
def _quantile(alpha: float, freedom: int) -> float:
    from scipy.special import stdtrit  # scipy.stats.t.ppf, without importing all of scipy.stats

    return float(stdtrit(max(1, freedom), 1 - alpha))


@dataclass(frozen=True)
class Band:
    """A prediction interval.

    Attributes:
        mean: Mean of the reference on the metric's own unit.
        low: Lower edge; a metric of which more is better fails below it.
        high: Upper edge.
        error: Standard error of prediction on the metric's scale.
    """

    mean: float
    low: float
    high: float
    error: float


def predict(
    metric: Judged,
    values: Sequence[float],
    spread: Spread,
    *,
    seeds: int,
    alpha: float,
    margin: float,
) -> Band:
    """Band for the mean of ``seeds`` new runs; no narrower than the values are rounded.

    Args:
        metric: Decides scale and side.
        values: The reference's values.
        spread: Spread of the case.
        seeds: How many new runs are averaged.
        alpha: Chance that an unchanged case falls off one given side.
        margin: Half-width below which no change matters; see ``Case.margins``.
    """
    scaled = [to_scale(metric, value) for value in values]
    centre = fmean(scaled)
    error = spread.deviation * math.sqrt(1 / seeds + 1 / len(values))
    half = _quantile(alpha, spread.freedom) * error
    mean = fmean(values)
    low = from_scale(metric, centre - half)
    high = from_scale(metric, centre + half)
    least = margin * abs(mean) if metric.scale == "log" else margin
    lowest, highest = _ENDS[metric.scale]
    low = min(low, mean - least, max(lowest, mean - RESOLUTION))
    high = max(high, mean + least, min(highest, mean + RESOLUTION))
    return Band(mean, low, high, error)


def distance(metric: Judged, value: float, values: Sequence[float], band: Band) -> float:
    """Signed distance of a new mean from the reference in standard errors of prediction."""
    centre = fmean(to_scale(metric, known) for known in values)
    return (to_scale(metric, value) - centre) / band.error if band.error else 0.0
