"""What a band can see: the drop of a score that the gate turns red in four cases of five."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bob.case import Case
from bob.protocols import Judged
from bob.references.bands import Spread, from_scale, predict, to_scale
from bob.references.comparison import is_exact, spread_of
from bob.references.files import Reference, ReferenceStore
from bob.references.gate import levels, margin, stages

POWER = 0.8
"""Chance with which a detectable drop turns its case red."""

DULL = 0.1
"""Share of the reference's mean beyond which a detectable drop says that the band guards little."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the gate sees of a case.

    Attributes:
        mean: The reference's mean of the score.
        drop: Change of the score for the worse, on its own unit, that turns the case red with a
            chance of ``POWER``; infinite where no change does.
        exact: Whether nothing is random, so that the drop is the margin and seen for certain.
    """

    mean: float
    drop: float
    exact: bool

    @property
    def dull(self) -> bool:
        """Whether the drop is more than ``DULL`` of the mean."""
        return self.drop > DULL * abs(self.mean)


def sight(case: Case, reference: Reference, store: ReferenceStore) -> Sight:
    """Reckon the detectable drop of a case's score from its reference and the gate's rules.

    It is of the score alone, with a check of one seed: a fault that moves the other judged metrics
    too is seen earlier. Seeds are taken as normal on the metric's scale, with the deviation that
    the reference and its pool tell; the second stage's own estimate of it counts with its degrees
    of freedom.
    """
    judged = case.judged[0]
    values = reference.metric(judged.name)
    mean = fmean(values)
    if is_exact(case, reference):
        return Sight(mean=mean, drop=margin(case, judged), exact=True)
    spread = spread_of(case, judged, values, reference=reference, store=store)
    drop = _drop(case, judged, values, spread)
    return Sight(mean=mean, drop=drop, exact=False)


def _drop(case: Case, judged: Judged, values: Sequence[float], spread: Spread) -> float:
    if not math.isfinite(spread.deviation):
        return math.inf
    known, least = levels(case, len(values), judged), margin(case, judged)
    runs = 1 + stages(len(values)).extra
    own = len(values) - 1 + runs - 1
    first = predict(judged, values, spread, seeds=1, alpha=known.first, margin=least)
    second = predict(
        judged, values, Spread(spread.deviation, own), seeds=runs, alpha=known.second, margin=least
    )
    centre = fmean(to_scale(judged, value) for value in values)

    def half(edge: float) -> float:
        return abs(centre - to_scale(judged, edge))

    worse = [(band.low if judged.higher_is_better else band.high) for band in (first, second)]
    step = _shift(half(worse[0]), half(worse[1]), spread.deviation, runs)
    return abs(fmean(values) - from_scale(judged, centre - judged.sign * step))


def _shift(first: float, second: float, deviation: float, runs: int) -> float:
    """Shift of the mean at which both stages are failed with a chance of ``POWER``.

    Args:
        first: Half-width of the band of one run, on the metric's scale.
        second: Half-width of the band of the mean of all runs.
        deviation: Between runs.
        runs: In all; the first of them is the first stage's.
    """
    if not deviation:
        return max(first, second)
    from scipy.optimize import brentq
    from scipy.stats import multivariate_normal

    # the first run is one of those that the mean is over
    together = 1 / math.sqrt(runs)
    joint = multivariate_normal([0, 0], [[1, together], [together, 1]], allow_singular=True)

    def missing(shift: float) -> float:
        reach = [(shift - first) / deviation, (shift - second) / deviation * math.sqrt(runs)]
        return float(joint.cdf(reach)) - POWER

    most = max(first, second) + 10 * deviation
    return float(brentq(missing, 0.0, most, xtol=1e-4 * deviation))
