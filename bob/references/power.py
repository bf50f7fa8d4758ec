"""What a band can see: the drop of a score that the gate turns red in four cases of five."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from bob.case import Case, Result
from bob.protocols import Judged
from bob.references.bands import Spread, from_scale, predict, to_scale
from bob.references.comparison import is_exact, spread_of
from bob.references.files import ReferenceStore
from bob.references.forms import Reference
from bob.references.gate import levels, margin, stages
from bob.references.no_reference import chance_of

POWER = 0.8
"""Chance with which a detectable drop turns its case red."""

_PARTS = 8

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


def least_of(case: Case, store: ReferenceStore, results: Sequence[Result] = ()) -> float:
    """What the score has to beat whatever its band is: chance, and the mean of its twin.

    Args:
        case: The case.
        store: Where the twin's reference is.
        results: One a seed, which may know more of chance than the catalog does.
    """
    if not case.judged[0].higher_is_better:
        return -math.inf
    chance = chance_of(case, results)
    twin = store.twin(case)
    known = twin.metric(case.metric) if twin is not None else []
    return max(-math.inf if chance is None else chance, fmean(known) if known else -math.inf)


def guards_little(seen: Sight, least: float) -> bool:
    """Whether a band sees large drops alone, or its reference is not above what it has to beat."""
    return (seen.dull and not seen.exact) or seen.mean <= least


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
    centre = fmean(to_scale(judged, value) for value in values)

    def half(deviations: Spread, seeds: int, alpha: float) -> float:
        band = predict(judged, values, deviations, seeds=seeds, alpha=alpha, margin=least)
        return abs(centre - to_scale(judged, band.low if judged.higher_is_better else band.high))

    first = half(spread, 1, known.first)
    second = [
        half(estimate, runs, known.second) for estimate in _estimates(judged, values, spread, runs)
    ]
    step = _shift(first, second, spread.deviation, runs)
    return abs(fmean(values) - from_scale(judged, centre - judged.sign * step))


def _estimates(
    judged: Judged, values: Sequence[float], spread: Spread, runs: int
) -> Iterator[Spread]:
    """Spreads that the second stage may reckon with, all equally likely."""
    from scipy.special import chdtri

    own = len(values) - 1
    squares = own * variance([to_scale(judged, value) for value in values]) if own else 0.0
    freedom = own + runs - 1
    for part in range(_PARTS):
        fresh = float(chdtri(runs - 1, 1 - (part + 0.5) / _PARTS)) * spread.deviation**2
        yield Spread(math.sqrt((squares + fresh) / freedom), freedom)


def _shift(first: float, second: Sequence[float], deviation: float, runs: int) -> float:
    """Shift of the mean at which both stages are failed with a chance of ``POWER``.

    Args:
        first: Half-width of the band of one run, on the metric's scale.
        second: Half-widths that the band of the mean of all runs may have, all equally likely.
        deviation: Between runs.
        runs: In all; the first of them is the first stage's.
    """
    if not deviation:
        return max(first, *second)
    root = math.sqrt(runs)

    def caught(shift: float) -> float:
        # the first run is one of those that the mean is over
        return fmean(
            _both((shift - first) / deviation, (shift - half) / deviation * root, 1 / root)
            for half in second
        )

    low, high = 0.0, max(first, *second) + 10 * deviation
    while high - low > 1e-3 * deviation:
        middle = (low + high) / 2
        low, high = (middle, high) if caught(middle) < POWER else (low, middle)
    return high


def _both(first: float, second: float, together: float) -> float:
    """Chance that two standard normals of this correlation lie below these."""
    import numpy as np
    from scipy.special import ndtr

    steps = np.linspace(-8.0, max(-8.0, min(8.0, first)), 200)
    rest = ndtr((second - together * steps) / math.sqrt(1 - together**2))
    return float(np.trapezoid(np.exp(-(steps**2) / 2) * rest, steps) / math.sqrt(2 * math.pi))
