"""Results × reference → verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bob.case import Case, Comparison, Result, Status, Verdict
from bob.references.bands import DIGITS, predict
from bob.references.comparison import (
    compare,
    compare_together,
    is_worse,
    raised,
    spread_of,
    stays_above,
)
from bob.references.files import ReferenceStore
from bob.references.forms import Reference
from bob.references.gate import ALPHA_SECOND, margin
from bob.references.no_reference import origin_of, stale, without_reference
from bob.references.power import guards_little, least_of, sight
from bob.references.published import beside
from bob.references.repeat import as_unchanged
from bob.references.wording import reason, too_near, worst


@dataclass(frozen=True)
class Gate:
    """The two-stage gate over a reference store; its rules are in ``bob.references.gate``."""

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
            return without_reference(case, known, results)
        reference, path = found
        absent = [judged.name for judged in case.judged if not reference.metric(judged.name)]
        if reference.protocol != case.protocol or absent:
            return stale(case, known, reference, path, absent)
        comparisons = tuple(
            compare(case, judged, results, reference=reference, store=self.store, stage=stage)
            for judged in case.judged
        )
        least = least_of(case, self.store, results)
        own = comparisons[0]
        # a first stage that asks for more seeds turns nothing red
        asks = stage == 1 and case.seeded
        if asks or stays_above(case, results, least, reference=reference, store=self.store):
            comparisons = (raised(own, least), *comparisons[1:])
        together = compare_together(
            case, results, reference=reference, store=self.store, stage=stage
        )
        seen = sight(case, reference, self.store)
        deciding = (*comparisons, *([together] if together else []))
        return Verdict(
            status=worst([comparison.status for comparison in deciding]),
            reason=reason(deciding),
            scores=known,
            comparisons=comparisons,
            together=together,
            reference_seeds=tuple(sorted(reference.values)),
            origin=origin_of(path, reference),
            detectable=None if seen.exact else seen.drop,
            guards_little=guards_little(seen, least) or comparisons[0].low < least,
            stage=stage,
            warnings=(
                *too_near(comparisons[0], least),
                *self._warnings(case, results, reference, comparisons),
            ),
        )

    def unchanged(self, case: Case, result: Result) -> Verdict:
        """The verdict of a case whose reference's seed gave its values again; see ``repeat``."""
        judged, found = self.judge(case, [result]), self.store.find(case)
        if found is None or not judged.comparisons:
            return judged
        reference, _ = found
        comparisons = tuple(map(as_unchanged, judged.comparisons))
        return replace(
            judged,
            status=Status.PASS,
            reason=f"unchanged: seed {result.case.seed} of the reference gave its values again, to "
            f"{DIGITS} digits, in the same environment",
            comparisons=comparisons,
            together=None,
            unchanged=True,
            warnings=self._notes(case, [result], reference, reference.metric(case.metric)),
        )

    @staticmethod
    def unusable(case: Case, results: Sequence[Result]) -> str:
        """Which judged metric is missing, or not finite, or no value of its unit; else empty."""
        for result in results:
            for judged in case.judged:
                value = result.metrics.get(judged.name)
                if value is None:
                    return f"{judged.name} is missing for seed {result.case.seed}"
                if not math.isfinite(value):
                    return f"{judged.name} is {value} for seed {result.case.seed}"
                if not judged.holds(value):
                    return (
                        f"{judged.name} is {value:g} for seed {result.case.seed}, which is no "
                        f"value of its unit {judged.unit!r}: the protocol has to give another "
                        "unit, or a share instead of percent"
                    )
        return ""

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
        own = sorted({result.case.seed for result in results} & reference.values.keys())
        if own and case.seeded:
            which = ", ".join(map(str, own))
            are = (
                f"seed {which} of this check is"
                if len(own) == 1
                else f"seeds {which} of this check are"
            )
            says = "it says" if len(own) == 1 else "they say"
            notes.append(
                f"{are} the reference's own, so that {says} less than other seeds would: name "
                "another --base-seed"
            )
        scores = [result.metrics[case.metric] for result in results]
        return (*notes, *self._notes(case, results, reference, scores))

    def _notes(
        self, case: Case, results: Sequence[Result], reference: Reference, scores: Sequence[float]
    ) -> tuple[str, ...]:
        """What to warn of whether or not anything has changed."""
        notes = list(dict.fromkeys(text for result in results for text in result.remarks))
        drift = self._drift(case, scores, reference)
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

    def _drift(self, case: Case, scores: Sequence[float], reference: Reference) -> str:
        """Whether updates, each within its band, have added up to a drop from the first values."""
        if reference.anchor.values == reference.values:
            return ""
        judged = case.judged[0]
        values = reference.anchored(judged.name)
        if not values:
            return ""
        spread = spread_of(case, judged, values, reference=reference, store=self.store)
        band = predict(
            judged,
            values,
            spread,
            seeds=len(scores),
            alpha=ALPHA_SECOND,
            margin=margin(case, judged),
        )
        value = fmean(scores)
        if not is_worse(judged, value, band):
            return ""
        side = "below" if judged.higher_is_better else "above"
        return (
            f"{judged.name} has drifted: {value:.4f} is {side} the band [{band.low:.4f}, "
            f"{band.high:.4f}] of the first accepted reference ({reference.anchor.recorded})"
        )
