"""Results × reference → verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bob.case import Case, Comparison, Result, Status, Verdict
from bob.protocols import PROTOCOLS, Judged
from bob.protocols.chance import CHANCE_ALPHA, CHANCE_BOUND
from bob.references.bands import Spread, case_spread, distance, pool, predict
from bob.references.files import BUILTIN, Reference, ReferenceStore
from bob.references.published import beside

ALPHA_FIRST = 0.05
"""Chance that an unchanged case runs extra seeds: the price of noticing drops in restless cases."""

ALPHA_SECOND = 0.01
"""Chance that the mean over all seeds of an unchanged case lies below its bound."""

EXTRA_SEEDS = 2


@dataclass(frozen=True)
class Gate:
    """The two-stage gate over a reference store.

    Stage 1 asks whether the seeds that ran lie below the band at ``ALPHA_FIRST``. If so the caller
    runs ``EXTRA_SEEDS`` more and asks again with ``stage=2``, where the mean over all of them fails
    below the band at ``ALPHA_SECOND``; between the two bounds it is inconclusive. Both levels are
    shared out over the judged metrics of the task.
    """

    store: ReferenceStore

    def judge(self, case: Case, results: Sequence[Result], *, stage: int = 1) -> Verdict:
        """Judge the results of one case over one or more seeds.

        Args:
            case: The case; its seed does not matter here.
            results: One result a seed, without failures.
            stage: 2 when these include the extra seeds of the second stage.
        """
        verdict = self._judge(case, results, stage)
        return verdict if self.unusable(case, results) else beside(verdict, case, results)

    def _judge(self, case: Case, results: Sequence[Result], stage: int) -> Verdict:
        scores = {result.case.seed: result.score for result in results}
        bad = self.unusable(case, results)
        known = {seed: score for seed, score in scores.items() if score is not None}
        if bad:
            return Verdict(status=Status.FAIL, reason=bad, scores=known)
        found = self.store.find(case)
        if found is None:
            return _without_reference(case, known, results)
        reference, path = found
        absent = [one.name for one in case.judged if not reference.metric(one.name)]
        if reference.protocol != case.protocol or absent:
            return _stale(case, known, reference, path, absent)
        comparisons = tuple(
            self._compare(case, judged, index, results, reference, stage)
            for index, judged in enumerate(case.judged)
        )
        return Verdict(
            status=_worst([one.status for one in comparisons]),
            reason=_reason(comparisons),
            scores=known,
            comparisons=comparisons,
            reference_seeds=tuple(sorted(reference.values)),
            origin=_origin(path, reference),
            stage=stage,
            warnings=self._warnings(case, results, reference, comparisons),
        )

    @staticmethod
    def unusable(case: Case, results: Sequence[Result]) -> str:
        """Which judged metric is missing or not finite; empty when all are there."""
        for result in results:
            for judged in case.judged:
                value = result.metrics.get(judged.name)
                if value is None:
                    return f"{judged.name} is missing for seed {result.case.seed}"
                if not math.isfinite(value):
                    return f"{judged.name} is {value} for seed {result.case.seed}"
        return ""

    def _compare(
        self,
        case: Case,
        judged: Judged,
        index: int,
        results: Sequence[Result],
        reference: Reference,
        stage: int,
    ) -> Comparison:
        values = reference.metric(judged.name)
        exact = is_exact(case, reference)
        spread = self._spread(case, judged, reference, values)
        share = len(case.judged)
        margin = case.margin if index == 0 else judged.margin
        first, second = (
            predict(
                judged,
                values,
                spread,
                seeds=len(results),
                alpha=alpha / share,
                margin=margin,
            )
            for alpha in (ALPHA_FIRST, ALPHA_SECOND)
        )
        value = fmean(result.metrics[judged.name] for result in results)
        sign = 1 if judged.higher_is_better else -1

        def worse(edge_low: float, edge_high: float) -> bool:
            return value < edge_low if sign > 0 else value > edge_high

        below_first = worse(first.low, first.high)
        below_second = worse(second.low, second.high)
        if stage == 1:
            status = Status.FAIL if below_first else Status.PASS
        elif below_second:
            status = Status.FAIL
        else:
            status = Status.INCONCLUSIVE if below_first else Status.PASS
        edges = first if stage == 1 else second
        better = value > second.high if sign > 0 else value < second.low
        return Comparison(
            metric=judged.name,
            value=value,
            low=edges.low,
            high=edges.high,
            reference=edges.mean,
            z=distance(judged, value, values, edges),
            status=status,
            improved=better,
            exact=exact,
        )

    def _spread(
        self, case: Case, judged: Judged, reference: Reference, values: Sequence[float]
    ) -> Spread:
        if is_exact(case, reference):
            return Spread(0.0, 1)
        pooled = pool(judged, self.store.groups(case, reference, judged.name))
        return case_spread(judged, values, pooled, reference.test_size)

    def _warnings(
        self,
        case: Case,
        results: Sequence[Result],
        reference: Reference,
        comparisons: Sequence[Comparison],
    ) -> tuple[str, ...]:
        notes = []
        if comparisons[0].improved:
            notes.append(
                f"{comparisons[0].metric} {comparisons[0].value:.4f} is above its band "
                f"[{comparisons[0].low:.4f}, {comparisons[0].high:.4f}]: improved? Look for "
                "leakage, then update with --bands all."
            )
        notes += dict.fromkeys(text for result in results for text in result.remarks)
        drift = self._drift(case, results, reference)
        if drift:
            notes.append(drift)
        digests = {result.weights_digest for result in results}
        if reference.weights and digests and digests != {reference.weights}:
            notes.append(
                "the weights are not those the reference was measured with "
                f"({reference.weights[:12]}...)"
            )
        data = {result.data_digest for result in results}
        if reference.data and data and data != {reference.data}:
            notes.append(
                f"the data are not those the reference was measured on ({reference.data[:12]}...)"
            )
        return tuple(notes)

    def _drift(self, case: Case, results: Sequence[Result], reference: Reference) -> str:
        """Whether updates, each within its band, have added up to a drop from the first values."""
        if reference.anchor.values == reference.values:
            return ""
        judged = case.judged[0]
        values = reference.anchored(judged.name)
        spread = self._spread(case, judged, reference, values)
        band = predict(
            judged,
            values,
            spread,
            seeds=len(results),
            alpha=ALPHA_SECOND,
            margin=case.margin,
        )
        value = fmean(result.metrics[judged.name] for result in results)
        if value >= band.low:
            return ""
        return (
            f"{judged.name} has drifted: {value:.4f} is below the band [{band.low:.4f}, "
            f"{band.high:.4f}] of the first accepted reference ({reference.anchor.recorded})"
        )


def is_exact(case: Case, reference: Reference) -> bool:
    """Whether nothing is random: the protocol draws nothing, and every seed had these weights."""
    return not PROTOCOLS[case.task].seeded and bool(reference.weights)


def _without_reference(case: Case, scores: dict[int, float], results: Sequence[Result]) -> Verdict:
    classes = case.dataset.classes or max(result.classes for result in results)
    size = case.dataset.test_size or max(result.test_size for result in results)
    mean = fmean(scores.values())
    bounds = [result.metrics[CHANCE_BOUND] for result in results if CHANCE_BOUND in result.metrics]
    bound = fmean(bounds) if bounds else None
    if bound is None:
        bound = _chance_bound(1 / classes, size * len(scores))
    remarks = tuple(dict.fromkeys(text for result in results for text in result.remarks))
    if bound >= 1:
        return Verdict(
            status=Status.NO_REFERENCE,
            reason=f"{case.metric} {mean:.4f} cannot be told from chance: of {classes} classes and "
            f"{size} test images even guesses may all be right. Add test images. There is no "
            "reference to compare with.",
            scores=scores,
            warnings=remarks,
        )
    if mean <= bound:
        return Verdict(
            status=Status.FAIL,
            reason=f"no reference, and {case.metric} {mean:.4f} does not beat chance "
            f"({bound:.4f} needed on {size} images)",
            scores=scores,
            warnings=remarks,
        )
    return Verdict(
        status=Status.NO_REFERENCE,
        reason=f"{case.metric} {mean:.4f} beats chance; there is no reference to compare with. "
        "Measure one with --bands new.",
        scores=scores,
        warnings=remarks,
    )


def _chance_bound(chance: float, samples: int) -> float:
    if not samples:
        return chance
    from scipy.stats import binom

    return float(binom.ppf(1 - CHANCE_ALPHA, samples, chance)) / samples


def _stale(
    case: Case, scores: dict[int, float], reference: Reference, path: Path, absent: list[str]
) -> Verdict:
    recipe = case.recipe.model_dump(mode="json")
    changes = [
        f"{key} {reference.recipe.get(key)!r} -> {recipe.get(key)!r}"
        for key in sorted(recipe.keys() | reference.recipe.keys())
        if recipe.get(key) != reference.recipe.get(key)
    ]
    what = ", ".join(changes) or "the dataset or the protocol version"
    why = f"the protocol changed since it was measured ({what})"
    if reference.protocol == case.protocol:
        why = f"it lacks {', '.join(absent)}"
    return Verdict(
        status=Status.FAIL,
        reason=f"no comparable reference: {why}. "
        "Undo the change, or measure anew with --bands failed.",
        scores=scores,
        reference_seeds=tuple(sorted(reference.values)),
        origin=_origin(path, reference),
        stale=True,
    )


def _origin(path: Path, reference: Reference) -> str:
    """File and day, in words that mean something on another machine too."""
    shown = str(path)
    with suppress(ValueError):
        shown = f"packaged {path.relative_to(BUILTIN)}"
    with suppress(ValueError):
        shown = str(path.relative_to(Path.cwd()))
    return f"{shown}, {reference.origin} {reference.recorded}"


def _worst(statuses: Sequence[Status]) -> Status:
    order = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS)
    return min(statuses, key=order.index)


def _reason(comparisons: Sequence[Comparison]) -> str:
    worst = _worst([one.status for one in comparisons])
    named = [one for one in comparisons if one.status is worst]
    if worst is Status.PASS:
        return f"{named[0].metric} {named[0].value:.4f} is in its band {_edges(named[0])}"
    if worst is Status.INCONCLUSIVE:
        return (
            f"{named[0].metric} {named[0].value:.4f} is inside {_edges(named[0])} at the level of "
            "stage 2 but outside the narrower band of stage 1: neither unchanged nor worse. Run "
            "more seeds."
        )
    return "; ".join(
        f"{one.metric} {one.value:.4f} is {'above' if one.value > one.reference else 'below'} its "
        f"band {_edges(one)}"
        for one in named
    )


def _edges(one: Comparison) -> str:
    return f"[{one.low:.4f}, {one.high:.4f}]"
