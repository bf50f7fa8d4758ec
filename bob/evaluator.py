"""One case from plan to verdict: run its seeds, judge, record, update references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bob import interrupts
from bob.case import Case, Context, Failure, Progress, Result, Status, Verdict
from bob.evaluation import Bands, Evaluation, Update
from bob.executors import Executor, Handle
from bob.references.files import ReferenceStore
from bob.references.gate import check_cases, extra_cases, needs_second_stage, reference_cases
from bob.references.judge import Gate
from bob.references.published import beside
from bob.tracking import Recorder

Watch = Callable[[Case, Progress], None]


@dataclass
class Evaluator:
    """Evaluates cases.

    Attributes:
        seeds: Seeds a check runs; references are measured on ``Case.reference_seeds`` unless
            ``seeds_given``. A case that no seed can change runs once in either.
        require_bands: Whether a case without a reference fails.
        watch: Receives progress of the running case.
    """

    executor: Executor
    context: Context
    store: ReferenceStore
    tracker: Recorder
    bands: Bands = Bands.CHECK
    seeds: int = 1
    seeds_given: bool = False
    require_bands: bool = False
    watch: Watch = lambda case, progress: None
    _handles: dict[tuple[str, str], Handle] = field(default_factory=dict)

    def submit(self, case: Case) -> None:
        """Hand the runs that will certainly be needed to the executor."""
        for run in self._first_runs(case):
            if _slot(run) not in self._handles:
                self._handles[_slot(run)] = self.executor.submit(run, self.context)

    def evaluate(self, case: Case) -> Evaluation:
        """Run a case and judge it; writes its reference when the mode says so."""
        runs = self._first_runs(case)
        if self._writes_first(case):
            return self._measure(case, runs)
        results, run_ids, failure = self._run_all(runs, role="check")
        if failure is not None:
            return self._failed(case, results, run_ids, failure)
        gate = Gate(self.store)
        verdict = gate.judge(case, results)
        if needs_second_stage(case, verdict):
            more, more_ids, failure = self._run_all(extra_cases(case, runs), role="check")
            results, run_ids = results + more, run_ids + more_ids
            if failure is not None:
                return self._failed(case, results, run_ids, failure)
            verdict = gate.judge(case, results, stage=2)
        if self.require_bands and verdict.status is Status.NO_REFERENCE:
            verdict = _changed(verdict, Status.FAIL, f"{verdict.reason} (--require-bands)")
        self.tracker.log_verdict(run_ids, verdict)
        if self.bands is Bands.FAILED and verdict.status is Status.FAIL:
            return self._remeasure(case, results, run_ids, verdict)
        return Evaluation(
            case=case,
            results=tuple(results),
            verdict=verdict,
            run_ids=tuple(filter(None, run_ids)),
        )

    def _writes_first(self, case: Case) -> bool:
        missing = self.bands is Bands.NEW and self.store.find(case) is None
        return missing or self.bands is Bands.ALL

    def _first_runs(self, case: Case) -> list[Case]:
        if self._writes_first(case):
            return self._reference_runs(case)
        return check_cases(case, self.seeds)

    def _reference_runs(self, case: Case) -> list[Case]:
        return reference_cases(case, self.seeds if self.seeds_given else None)

    def _run_all(
        self, cases: Sequence[Case], *, role: str
    ) -> tuple[list[Result], list[str | None], Failure | None]:
        results, run_ids = [], []
        for case in cases:
            result, run_id = self._run(case, role=role)
            results.append(result)
            run_ids.append(run_id)
            if result.failure is not None:
                return results, run_ids, result.failure
        return results, run_ids, None

    def _run(self, case: Case, *, role: str) -> tuple[Result, str | None]:
        run_id = self.tracker.start_case(case, role=role)
        handle = self._handles.pop(_slot(case), None) or self.executor.submit(case, self.context)

        def emit(progress: Progress) -> None:
            interrupts.check()
            self.tracker.log_progress(run_id, progress)
            self.watch(case, progress)

        try:
            result = handle.result(emit)
        except BaseException:
            self.tracker.kill(run_id)
            raise
        self.tracker.finish_case(run_id, result)
        return result, run_id

    def _measure(self, case: Case, runs: Sequence[Case]) -> Evaluation:
        results, run_ids, failure = self._run_all(runs, role="reference")
        if failure is not None:
            return self._failed(case, results, run_ids, failure)
        update, verdict = self._write(case, results)
        if self.bands is Bands.ALL and verdict.status is not Status.FAIL:
            verdict = _changed(verdict, Status.PASS, verdict.reason)
        elif verdict.status is not Status.FAIL:
            reason = f"{verdict.reason} Look at it and run again without --bands."
            verdict = _changed(verdict, Status.FAIL, reason)
        self.tracker.log_verdict(run_ids, verdict)
        return Evaluation(
            case=case,
            results=tuple(results),
            verdict=verdict,
            run_ids=tuple(filter(None, run_ids)),
            update=update,
        )

    def _remeasure(
        self,
        case: Case,
        results: list[Result],
        run_ids: list[str | None],
        verdict: Verdict,
    ) -> Evaluation:
        measured, more_ids, failure = self._run_all(self._reference_runs(case), role="reference")
        if failure is not None:
            return self._failed(case, measured, more_ids, failure)
        update, written = self._write(case, measured)
        self.tracker.log_verdict(more_ids, written)
        reason = f"{verdict.reason}. {written.reason}"
        return Evaluation(
            case=case,
            results=(*results, *measured),
            verdict=_changed(verdict, Status.FAIL, reason),
            run_ids=tuple(filter(None, run_ids + more_ids)),
            update=update,
        )

    def _write(self, case: Case, results: Sequence[Result]) -> tuple[Update | None, Verdict]:
        scores = {result.case.seed: result.score for result in results if result.score is not None}
        problem = Gate(self.store).unusable(case, results)
        if problem:
            reason = f"no reference was written: {problem}"
            return None, Verdict(status=Status.FAIL, reason=reason, scores=scores)
        old, new = self.store.write(case, results)
        verb = "updated" if old else "created"
        reason = f"reference {verb} from {len(scores)} seeds."
        verdict = Verdict(status=Status.NO_REFERENCE, reason=reason, scores=scores)
        return Update(case, old, new), beside(verdict, case, results)

    def _failed(
        self,
        case: Case,
        results: Sequence[Result],
        run_ids: Sequence[str | None],
        failure: Failure,
    ) -> Evaluation:
        scores = {result.case.seed: result.score for result in results if result.score is not None}
        status = Status.SKIPPED if failure.kind == "unavailable" else Status.FAIL
        verdict = Verdict(status=status, reason=failure.message, scores=scores)
        self.tracker.log_verdict(run_ids, verdict)
        return Evaluation(
            case=case,
            results=tuple(results),
            verdict=verdict,
            run_ids=tuple(filter(None, run_ids)),
            failure=failure,
        )


def _slot(case: Case) -> tuple[str, str]:
    """One backbone may stand under two names: their cases have one id but two results."""
    return case.id, case.backbone.key


def _changed(verdict: Verdict, status: Status, reason: str) -> Verdict:
    return replace(verdict, status=status, reason=reason)
