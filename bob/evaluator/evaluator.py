"""The evaluator: events of the executor in, evaluations out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bob import interrupts
from bob.case import Case, Context, Failure, Result, Status, Verdict
from bob.errors import ExecutorLost
from bob.evaluation import Bands, Evaluation, Update
from bob.evaluator import verdicts
from bob.evaluator.keeping import Keeper
from bob.evaluator.runs import Group, Run
from bob.evaluator.watch import Unwatched, Watch
from bob.executors import Event, Executor, Finished, Limit, Need, Progressed, Started, Submission
from bob.ledger.ledger import Ledger
from bob.ledger.records import Judgement, Recorded, entry_name, now, verdict_name
from bob.references.files import ReferenceStore
from bob.references.gate import check_cases, extra_cases, needs_second_stage, reference_cases
from bob.references.judge import Gate
from bob.references.repeat import repeat, repeatable
from bob.reuse import Lookup, nothing_earlier
from bob.tracking.recorder import Recorder


@dataclass
class Evaluator:
    """Evaluates cases.

    Attributes:
        ledger: Where every result is kept before anything else happens to it; none keeps nothing.
        session: Name of the session in it.
        seeds: Seeds a check runs; references are measured on ``Case.reference_seeds`` unless
            ``seeds_given``. A case that no seed can change runs once in either.
        same_seed: Whether a check on a machine like the reference's runs a seed of it first.
        require_bands: Whether a case without a reference fails.
        limit: How long a run of a case may take.
        need: What it is estimated to need, where the executor asks.
        watch: Is told of runs while they run.
        lacking: Why a case's data could not be fetched; empty where they were, or nobody asked for
            it. Such a case is skipped: of data that are there in part a score would be wrong.
        earlier: Finds results of earlier sessions, which are reused.
        keeper: What writes to the ledger, and knows what it did not take.
    """

    executor: Executor
    context: Context
    store: ReferenceStore
    tracker: Recorder
    ledger: Ledger | None = None
    session: str = ""
    bands: Bands = Bands.CHECK
    seeds: int = 1
    seeds_given: bool = False
    same_seed: bool = False
    require_bands: bool = False
    limit: Callable[[Case], Limit | None] = lambda case: None
    need: Callable[[Case], Need | None] = lambda case: None
    watch: Watch = field(default_factory=Unwatched)
    lacking: Callable[[Case], str] = lambda case: ""
    earlier: Lookup = nothing_earlier
    keeper: Keeper = field(init=False)
    _groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    _running: dict[str, tuple[Run, Group]] = field(default_factory=dict)
    _tickets: Counter[str] = field(default_factory=Counter)
    _waited: Group | None = None

    def __post_init__(self) -> None:
        folder = self.context.checkpoints
        self.keeper = Keeper(self.ledger, Path(folder) if folder else None)

    def submit(self, case: Case) -> None:
        """Hand the runs that will certainly be needed to the executor."""
        if _slot(case) not in self._groups:
            self._groups[_slot(case)] = self._open(case)

    def runs_of(self, case: Case) -> tuple[Run, ...]:
        """The runs of a case that was submitted, as far as they are known to be needed."""
        return tuple(self._groups[_slot(case)].runs)

    def evaluate(self, case: Case) -> Evaluation:
        """Wait for a case's runs and judge them; writes its reference when the mode says so."""
        group = self._groups.pop(_slot(case), None) or self._open(case)
        self._await(group)
        if group.role == "reference":
            return self._measured(group)
        if group.failure is not None:
            return self._failed(group, group.failure)
        verdict = self._judge(group)
        if self.require_bands and verdict.status is Status.NO_REFERENCE:
            verdict = verdicts.changed(verdict, Status.FAIL, f"{verdict.reason} (--require-bands)")
        if self.bands is Bands.FAILED and verdict.status is Status.FAIL:
            return self._remeasure(group, verdict)
        return self._concluded(group, verdict)

    def abandon(self, failure: Failure) -> Evaluation | None:
        """Conclude the case that was waited for when something else than an interrupt ended it.

        A plugin's time limit raises in the middle of a run, and a reference may not be written.
        Runs of the case that were going on have failed, those that had ended keep their results.

        Args:
            failure: Why there is no verdict.

        Returns:
            The case as it was left; none where no case was waited for.
        """
        group, self._waited = self._waited, None
        if group is None:
            return None
        left = [run for run in group.runs if run.open]
        for run in left:
            self._running.pop(run.ticket, None)
            if run.started:
                self._open_record(run)
                self._finish(run, Result(case=run.case, failure=failure))
            else:
                self._drop(run)
        self.executor.cancel([run.ticket for run in left])
        return self._failed(group, failure)

    def drop(self, evaluation: Evaluation, *, later: Evaluation) -> None:
        """Take the runs of a case out of the record that was evaluated again."""
        runs = zip(evaluation.run_ids, evaluation.roles, strict=False)
        repeated = [run_id for run_id, role in runs if role in later.roles]
        if evaluation.run_id and repeated:
            repeated.append(evaluation.run_id)
        kept = {*later.run_ids, later.run_id}  # a result that is reused is reused twice
        self.tracker.drop([run_id for run_id in repeated if run_id not in kept])

    def close(self, *, cancel: bool) -> None:
        """Let go of the executor; what nobody waited for is cancelled."""
        self.executor.cancel(list(self._running))
        self.executor.shutdown(cancel=cancel or bool(self._running))
        self.keeper.try_again()

    def _open(self, case: Case) -> Group:
        if self._writes_first(case):
            return self._request(case, "reference", self._reference_runs(case))
        found = self.store.find(case) if self.same_seed else None
        devices = self.context.devices
        seed = repeatable(case, found[0], devices=devices) if found else None
        if seed is None:
            return self._request(case, "check", check_cases(case, self.seeds))
        assert found is not None
        again = self._run(case.with_seed(seed), "check")
        group = Group(case, "check", [], again=again, reference=found[0])
        self._submit([again], group)
        return group

    def _request(self, case: Case, role: str, seeds: Sequence[Case]) -> Group:
        group = Group(case, role, [self._run(seed, role) for seed in seeds])
        self._submit(group.first, group)
        return group

    def _run(self, case: Case, role: str) -> Run:
        name = entry_name(case, role)
        self._tickets[name] += 1
        again = self._tickets[name]
        return Run(name if again == 1 else f"{name}-{again}", case, role)

    def _submit(self, runs: Sequence[Run], group: Group) -> None:
        """Have runs done whose result no earlier session has; go on where that is all of them."""
        for run in runs:
            run.standing = self.earlier(run.case, run.role)
            if run.standing.recorded is not None:
                run.reuse(run.standing.recorded)
                self.keeper.has(run.standing.recorded.result.run_key)
                continue
            if reason := self.lacking(run.case):
                self._skip(run, reason)
                continue
            context = replace(self.context, known=run.known) if run.known else self.context
            self._running[run.ticket] = (run, group)
            self.watch.planned(run.ticket, run.case)
            self.executor.submit(
                Submission(run.ticket, run.case, context, self.limit(run.case), self.need(run.case))
            )
        if runs and not any(run.open for run in runs):
            self._go_on(group)

    def _skip(self, run: Run, reason: str) -> None:
        """End a run before it starts."""
        run.started = True
        self._open_record(run)
        self._finish(run, Result(case=run.case, failure=Failure("unavailable", reason)))

    def _writes_first(self, case: Case) -> bool:
        missing = self.bands is Bands.NEW and self.store.find(case) is None
        return missing or self.bands is Bands.ALL

    def _reference_runs(self, case: Case) -> list[Case]:
        return reference_cases(case, self.seeds if self.seeds_given else None)

    def _await(self, group: Group) -> None:
        """Pump the executor until the group's runs have ended, those of a second stage too."""
        self._waited = group
        try:
            while waiting := [run.ticket for run in group.runs if run.open]:
                self.executor.advance(self._take, waiting_for=waiting[0])
                self.watch.tick()
                interrupts.check()
        except (KeyboardInterrupt, SystemExit, GeneratorExit, ExecutorLost):
            self._waited = None
            for run, _ in self._running.values():
                if run.started:
                    self.tracker.kill(run.run_id)
            raise

    def _take(self, event: Event) -> None:
        """Take an event of any case, whichever is waited for."""
        found = self._running.get(event.ticket)
        if found is None:
            return  # cancelled, or finished twice
        run, group = found
        if not run.started:
            run.started = True
            self.watch.started(run.ticket)
        match event:
            case Started():
                if not run.known:
                    self._open_record(run)
            case Progressed(progress=progress):
                interrupts.check()
                if progress.phase != "load" and progress.run_key not in run.known:
                    self._open_record(run)
                if progress.metrics:
                    run.curve.append((progress.epoch + 1, dict(progress.metrics)))
                self.tracker.log_progress(run.run_id, progress)
                self.watch.moved(run.ticket, progress)
            case Finished(result=result):
                del self._running[run.ticket]
                if result.recognised:
                    self.watch.ended(run.ticket)
                    run.recognise(result.run_key)
                    self.keeper.has(result.run_key)
                else:
                    self._open_record(run)
                    self._finish(run, result)
                self._go_on(group)

    def _open_record(self, run: Run) -> None:
        """Open the MLflow run of a run that has none."""
        if not run.recording:
            run.recording = True
            run.run_id = self.tracker.start_case(run.case, role=run.role, entry=run.ticket)

    def _drop(self, run: Run) -> None:
        run.cancelled = True
        self.watch.dropped(run.ticket)

    def _finish(self, run: Run, result: Result) -> None:
        self.watch.ended(run.ticket)
        recorded = Recorded(
            entry=run.ticket,
            session=self.session,
            role=run.role,
            time=now(),
            result=result,
            curve=tuple(run.curve),
        )
        with interrupts.held():
            self.keeper.result(recorded, run.run_id)
            run.recorded = recorded
            self.tracker.finish_case(run.run_id, recorded)

    def _go_on(self, group: Group) -> None:
        """Submit the second stage as soon as the first has failed; drop what a failure ends."""
        if group.failure is not None:
            rest = [run for run in group.runs if run.open and not run.started]
            for run in rest:
                self._drop(run)
                self._running.pop(run.ticket, None)
            self.executor.cancel([run.ticket for run in rest])
            return
        if group.role == "reference" or group.further or any(run.open for run in group.runs):
            return
        case = group.case
        if group.again is not None and not group.first:
            self._go_on_from_repeat(group, group.again)
            return
        verdict = group.first_verdict = Gate(self.store).judge(case, group.judged)
        if needs_second_stage(case, verdict):
            extra = extra_cases(
                case,
                [run.case for run in group.first],
                reference_seeds=verdict.reference_seeds,
            )
            group.further = [self._run(seed, group.role) for seed in extra]
            self._submit(group.further, group)

    def _go_on_from_repeat(self, group: Group, again: Run) -> None:
        """Fresh seeds where the reference's own did not give its values again."""
        case = group.case
        if group.reference is None or again.recorded is None:
            return
        group.repeated = repeat(case, again.recorded.result, group.reference)
        if group.repeated.unchanged:
            return
        if not case.seeded:
            group.first = [again]  # another seed would give the same
            return
        group.first = [self._run(seed, group.role) for seed in check_cases(case, self.seeds)]
        self._submit(group.first, group)

    def _judge(self, group: Group) -> Verdict:
        gate = Gate(self.store)
        repeated = group.repeated
        if repeated is not None and repeated.unchanged and group.again and group.again.recorded:
            return gate.unchanged(group.case, group.again.recorded.result)
        verdict = group.first_verdict
        if group.further or verdict is None:
            verdict = gate.judge(group.case, group.judged, stage=2 if group.further else 1)
        if repeated is not None and repeated.note:
            return replace(verdict, warnings=(repeated.note, *verdict.warnings))
        return verdict

    def _concluded(
        self,
        group: Group,
        verdict: Verdict,
        *,
        failure: Failure | None = None,
        update: Update | None = None,
    ) -> Evaluation:
        """The evaluation of a group; its verdict is kept, then recorded."""
        runs = group.done
        name = verdict_name(group.case)
        if group.role == "reference":
            name = f"{name}-reference"
        with interrupts.held():
            self._keep(group, name, verdict)
            for run, recorded in group.reused:
                run.run_id = self.tracker.adopt(recorded)
            pairs = [(run.run_id, run.recorded) for run in runs if run.recorded is not None]
            run_id = self.tracker.log_verdict(pairs, verdict, name=name)
        return Evaluation(
            case=group.case,
            results=tuple(group.results),
            verdict=verdict,
            roles=(group.role,) * len(group.results),
            run_ids=tuple(run.run_id for run in runs if run.run_id is not None),
            run_id=run_id,
            failure=failure,
            update=update,
            reused=tuple(recorded for _, recorded in group.reused),
        )

    def _keep(self, group: Group, name: str, verdict: Verdict) -> None:
        judgement = Judgement(
            name=name,
            session=self.session,
            role=group.role,
            entries=tuple(run.entry for run in group.done),
            verdict=verdict,
        )
        self.keeper.verdict(judgement)

    def _measured(self, group: Group) -> Evaluation:
        """A reference from runs that were made for it."""
        if group.failure is not None:
            return self._failed(group, group.failure)
        update, verdict = self._write(group.case, group.results)
        if self.bands is Bands.ALL and verdict.status is not Status.FAIL:
            verdict = verdicts.changed(verdict, Status.PASS, verdict.reason)
        elif verdict.status is not Status.FAIL:
            reason = f"{verdict.reason} Look at it and run again without --bands."
            verdict = verdicts.changed(verdict, Status.FAIL, reason)
        return self._concluded(group, verdict, update=update)

    def _remeasure(self, group: Group, verdict: Verdict) -> Evaluation:
        """A reference anew for a case that has just failed against the old one."""
        measured = self._request(group.case, "reference", self._reference_runs(group.case))
        checked = self._concluded(group, verdict)
        self._await(measured)
        if measured.failure is not None:
            return self._failed(measured, measured.failure)
        update, written = self._write(group.case, measured.results)
        second = self._concluded(measured, written)
        return replace(
            checked,
            results=(*checked.results, *second.results),
            roles=(*checked.roles, *second.roles),
            verdict=verdicts.changed(verdict, Status.FAIL, f"{verdict.reason}. {written.reason}"),
            run_ids=(*checked.run_ids, *second.run_ids),
            update=update,
            reused=(*checked.reused, *second.reused),
        )

    def _write(self, case: Case, results: Sequence[Result]) -> tuple[Update | None, Verdict]:
        problem = Gate(self.store).unusable(case, results)
        if problem:
            return None, verdicts.of_unusable(problem, results)
        old, new = self.store.write(case, results)
        verdict = verdicts.of_written(case, results, replaced=old is not None)
        return Update(case, old, new), verdict

    def _failed(self, group: Group, failure: Failure) -> Evaluation:
        verdict = verdicts.of_failure(failure, group.results)
        return self._concluded(group, verdict, failure=failure)


def _slot(case: Case) -> tuple[str, str]:
    """One backbone may stand under two names: their cases have one id but two results."""
    return case.id, case.backbone.key
