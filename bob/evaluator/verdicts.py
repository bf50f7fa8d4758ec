"""Verdicts that no band decides: of a case that failed, and of a reference that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bob.case import Case, Failure, Result, Status, Verdict
from bob.references.published import beside
from bob.shown import block

_REASON = 2000


def changed(verdict: Verdict, status: Status, reason: str) -> Verdict:
    """A verdict with another decision, and why."""
    return replace(verdict, status=status, reason=reason)


def of_failure(failure: Failure, results: Sequence[Result]) -> Verdict:
    """The verdict of a case of which a seed has no score."""
    status = Status.SKIPPED if failure.kind == "unavailable" else Status.FAIL
    reason = block(failure.message, limit=_REASON, whole="result.json of the run")
    remarks = tuple(dict.fromkeys(text for result in results for text in result.remarks))
    return Verdict(status=status, reason=reason, scores=_scores(results), warnings=remarks)


def of_unusable(problem: str, results: Sequence[Result]) -> Verdict:
    """The verdict where results cannot be a reference, and why not."""
    reason = f"no reference was written: {problem}"
    return Verdict(status=Status.FAIL, reason=reason, scores=_scores(results))


def of_written(case: Case, results: Sequence[Result], *, replaced: bool) -> Verdict:
    """What is told of a reference that was written, beside published scores."""
    scores = _scores(results)
    verb = "updated" if replaced else "created"
    reason = f"reference {verb} from {len(scores)} seeds."
    verdict = Verdict(status=Status.NO_REFERENCE, reason=reason, scores=scores)
    return beside(verdict, case, results)


def _scores(results: Sequence[Result]) -> dict[int, float]:
    return {result.case.seed: result.score for result in results if result.score is not None}
