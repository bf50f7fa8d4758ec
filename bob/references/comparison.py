"""One judged metric of some results next to its band."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bob.case import Case, Comparison, Result, Status
from bob.protocols import PROTOCOLS, Judged
from bob.references.bands import Band, Spread, case_spread, distance, pool, predict
from bob.references.files import Reference, ReferenceStore
from bob.references.gate import levels, margin


def compare(
    case: Case,
    judged: Judged,
    results: Sequence[Result],
    *,
    reference: Reference,
    store: ReferenceStore,
    stage: int,
) -> Comparison:
    """Hold the mean of a metric against its bands at both levels of the gate.

    Args:
        case: The case.
        judged: One of its judged metrics.
        results: One result a seed, all with the metric.
        reference: The case's reference, with the metric.
        store: Where references of its kind are pooled from.
        stage: 1, or 2 when the results include the extra seeds.
    """
    values, shared = reference.metric(judged.name), levels(case)
    spread = spread_of(case, judged, values, reference=reference, store=store)
    first, second = (
        predict(
            judged,
            values,
            spread,
            seeds=len(results),
            alpha=alpha,
            margin=margin(case, judged),
        )
        for alpha in (shared.first, shared.second)
    )
    value = fmean(result.metrics[judged.name] for result in results)
    edges = first if stage == 1 else second
    return Comparison(
        metric=judged.name,
        value=value,
        low=edges.low,
        high=edges.high,
        reference=edges.mean,
        z=distance(judged, value, values, edges),
        status=_status(
            stage,
            outside_first=is_worse(judged, value, first),
            outside_second=is_worse(judged, value, second),
        ),
        improved=value > second.high if judged.higher_is_better else value < second.low,
        exact=is_exact(case, reference),
    )


def spread_of(
    case: Case,
    judged: Judged,
    values: Sequence[float],
    *,
    reference: Reference,
    store: ReferenceStore,
) -> Spread:
    """Spread between seeds of some values of a reference, on the metric's scale."""
    if is_exact(case, reference):
        return Spread(0.0, 1)
    pooled = pool(judged, store.groups(case, reference, judged.name))
    return case_spread(judged, values, pooled, reference.test_size)


def is_exact(case: Case, reference: Reference) -> bool:
    """Whether nothing is random: the protocol draws nothing, and every seed had these weights."""
    return not PROTOCOLS[case.task].seeded and bool(reference.weights)


def is_worse(judged: Judged, value: float, band: Band) -> bool:
    """Whether a value lies beyond the worse edge of a band."""
    return value < band.low if judged.higher_is_better else value > band.high


def _status(stage: int, *, outside_first: bool, outside_second: bool) -> Status:
    if stage == 1:
        return Status.FAIL if outside_first else Status.PASS
    if outside_second:
        return Status.FAIL
    return Status.INCONCLUSIVE if outside_first else Status.PASS
