"""One judged metric of some results next to its band, and all of them together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from bob.case import Case, Comparison, Result, Status
from bob.protocols import PROTOCOLS, Judged
from bob.references import wording
from bob.references.bands import Band, Spread, case_spread, distance, pool, predict, to_scale
from bob.references.files import ReferenceStore
from bob.references.forms import Reference
from bob.references.gate import ALPHA_SECOND, Levels, levels, margin

TOGETHER = Judged(wording.TOGETHER, "real")
"""All judged metrics as one: the mean of their distances from the reference in its deviations."""


def compare(
    case: Case,
    judged: Judged,
    results: Sequence[Result],
    *,
    reference: Reference,
    store: ReferenceStore,
    stage: int,
) -> Comparison:
    """Hold the mean of a metric against its bands at the levels of the gate.

    Args:
        case: The case.
        judged: One of its judged metrics.
        results: One result a seed, all with the metric.
        reference: The case's reference, with the metric.
        store: Where references of its kind are pooled from.
        stage: 1, or 2 when the results include the extra seeds.
    """
    values = reference.metric(judged.name)
    fresh = [result.metrics[judged.name] for result in results]
    return _comparison(
        judged,
        values,
        fresh,
        spread_of(case, judged, values, reference=reference, store=store, fresh=fresh),
        levels=levels(case, len(reference.values), judged),
        margin=margin(case, judged),
        stage=stage,
        exact=is_exact(case, reference),
    )


def stays_above(
    case: Case,
    results: Sequence[Result],
    least: float,
    *,
    reference: Reference,
    store: ReferenceStore,
) -> bool:
    """Whether an unchanged score stays above what it has to beat, but for ``ALPHA_SECOND``.

    Args:
        case: The case.
        results: One result a seed, all with the score.
        least: What it has to beat.
        reference: The case's reference, with the score.
        store: Where references of its kind are pooled from.
    """
    judged = case.judged[0]
    values = reference.metric(judged.name)
    fresh = [result.metrics[judged.name] for result in results]
    spread = spread_of(case, judged, values, reference=reference, store=store, fresh=fresh)
    band = predict(
        judged,
        values,
        spread,
        seeds=len(fresh),
        alpha=ALPHA_SECOND,
        margin=margin(case, judged),
    )
    return band.low >= least


def raised(comparison: Comparison, least: float) -> Comparison:
    """A comparison of the score whose worse edge is drawn up to what it has to beat.

    A band that reaches down to what a network without any learning scores would guard nothing.
    Nothing is drawn past the reference itself, which would turn an unchanged case red; where the
    reference lies barely above, neither is a band that turns a case red (see ``stays_above``).

    Args:
        comparison: Of the score, of which more is better.
        least: What it has to beat.
    """
    if not comparison.low < least < comparison.reference:
        return comparison
    below = comparison.value < least
    status = Status.FAIL if below else comparison.status
    return replace(comparison, low=least, status=status)


def compare_together(
    case: Case,
    results: Sequence[Result],
    *,
    reference: Reference,
    store: ReferenceStore,
    stage: int,
) -> Comparison | None:
    """Hold the average of all judged metrics against its band.

    Metrics that move together by less than each one's band are seen here. Each is taken on its
    scale, as its distance from the reference's mean in deviations of the case, positive where it is
    better; the average over metrics is then judged like a metric of its own, whose spread its own
    seeds tell.

    Args:
        case: The case.
        results: One result a seed, all with every judged metric.
        reference: The case's reference, with every judged metric.
        store: Where references of its kind are pooled from.
        stage: 1, or 2 when the results include the extra seeds.

    Returns:
        None where a single metric is judged, where nothing is random, where the spread of a metric
        is not known, and where no seed of the reference has every metric.
    """
    if len(case.judged) < 2 or is_exact(case, reference):
        return None
    deviations = {
        judged: spread_of(
            case, judged, reference.metric(judged.name), reference=reference, store=store
        ).deviation
        for judged in case.judged
    }
    if not all(0 < deviation < math.inf for deviation in deviations.values()):
        return None
    means = _means(reference, deviations)
    if not means:
        return None
    known = _averages(reference, deviations)
    fresh = [_average(result.metrics, means, deviations) for result in results]
    groups = [_averages(other, deviations) for other in store.alike(case, reference)]
    least = fmean(
        _on_scale(judged, reference.metric(judged.name), margin(case, judged)) / deviation
        for judged, deviation in deviations.items()
    )
    return _comparison(
        TOGETHER,
        known,
        fresh,
        case_spread(TOGETHER, known, pool(TOGETHER, groups), 0, fresh=fresh),
        levels=levels(case, len(reference.values)),
        margin=least,
        stage=stage,
        exact=False,
    )


def _average(
    values: Mapping[str, float], means: Mapping[Judged, float], deviations: Mapping[Judged, float]
) -> float:
    """A seed's mean distance over metrics, in deviations, positive where it is better."""
    return fmean(
        judged.sign * (to_scale(judged, values[judged.name]) - means[judged]) / deviation
        for judged, deviation in deviations.items()
    )


def _averages(reference: Reference, deviations: Mapping[Judged, float]) -> list[float]:
    """Those of a reference's seeds around their own mean; seeds that lack a metric are left out."""
    means = _means(reference, deviations)
    return [_average(values, means, deviations) for values in _whole(reference, deviations)]


def _means(reference: Reference, metrics: Iterable[Judged]) -> dict[Judged, float]:
    """Mean of each metric on its scale over the seeds that have them all; empty without one."""
    whole = _whole(reference, metrics)
    if not whole:
        return {}
    return {
        judged: _centre(judged, [values[judged.name] for values in whole]) for judged in metrics
    }


def _whole(reference: Reference, metrics: Iterable[Judged]) -> list[Mapping[str, float]]:
    """Values of the seeds that have all of some metrics."""
    names = {judged.name for judged in metrics}
    return [values for _, values in sorted(reference.values.items()) if names <= values.keys()]


def _comparison(
    judged: Judged,
    values: Sequence[float],
    fresh: Sequence[float],
    spread: Spread,
    *,
    levels: Levels,
    margin: float,
    stage: int,
    exact: bool,
) -> Comparison:
    first, doubt, second = (
        predict(judged, values, spread, seeds=len(fresh), alpha=alpha, margin=margin)
        for alpha in (levels.first, levels.doubt, levels.second)
    )
    value = fmean(fresh)
    edges = first if stage == 1 else second
    if stage == 1:
        status = Status.FAIL if is_worse(judged, value, first) else Status.PASS
    elif is_worse(judged, value, second):
        status = Status.FAIL
    else:
        status = Status.INCONCLUSIVE if is_worse(judged, value, doubt) else Status.PASS
    # beyond the better edge a case is told to have improved, which takes the level of stage 2
    low, high = (edges.low, second.high) if judged.higher_is_better else (second.low, edges.high)
    return Comparison(
        metric=judged.name,
        value=value,
        low=low,
        high=high,
        reference=edges.mean,
        z=distance(judged, value, values, edges),
        status=status,
        improved=value > high if judged.higher_is_better else value < low,
        exact=exact,
    )


def spread_of(
    case: Case,
    judged: Judged,
    values: Sequence[float],
    *,
    reference: Reference,
    store: ReferenceStore,
    fresh: Sequence[float] = (),
) -> Spread:
    """Spread between seeds of some values of a reference and new ones, on the metric's scale."""
    if is_exact(case, reference):
        return Spread(0.0, 1)
    groups = [other.metric(judged.name) for other in store.alike(case, reference)]
    return case_spread(judged, values, pool(judged, groups), reference.test_size, fresh=fresh)


def is_exact(case: Case, reference: Reference) -> bool:
    """Whether nothing is random: the protocol draws nothing, and every seed had these weights."""
    return not PROTOCOLS[case.task].seeded and bool(reference.weights)


def is_worse(judged: Judged, value: float, band: Band) -> bool:
    """Whether a value lies beyond the worse edge of a band."""
    return value < band.low if judged.higher_is_better else value > band.high


def _centre(judged: Judged, values: Sequence[float]) -> float:
    return fmean(to_scale(judged, value) for value in values)


def _on_scale(judged: Judged, values: Sequence[float], margin: float) -> float:
    """A margin for the worse as a distance on the metric's scale."""
    mean = fmean(values)
    step = margin * mean if judged.scale == "log" else margin
    return abs(to_scale(judged, mean - judged.sign * step) - to_scale(judged, mean))
