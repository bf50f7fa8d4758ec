"""Executors: the contract on the built-in one and on one that runs cases out of order."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bob.case import Case, Context, Status
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.executors import Deliver, Executor, Finished, Progressed, Started, Submission
from bob.executors.contract import ExecutorContract
from bob.executors.inline import InlineExecutor
from bob.ledger import Ledger
from bob.references.files import ReferenceStore
from bob.references.gate import REFERENCE_SEED, stages
from bob.run import run_case
from bob.tracking import NoTracker
from tests.conftest import MakeResult


@dataclass
class Shuffled:
    """Runs what is submitted in an order of its own, whatever is waited for, and tells late."""

    seed: int = 0
    waiting: dict[str, Submission] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def submit(self, submission: Submission) -> None:
        self.waiting[submission.ticket] = submission

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        if not self.waiting:
            return
        generator = random.Random(self.seed + len(self.order))
        ticket = generator.choice(sorted(self.waiting))
        submission = self.waiting.pop(ticket)
        self.order.append(ticket)
        told = [Started(ticket)]
        result = run_case(
            submission.case,
            submission.context,
            lambda progress: told.append(Progressed(ticket, progress)),  # type: ignore[arg-type]
        )
        for event in told:
            deliver(event)
        deliver(Finished(ticket, result))

    def cancel(self, tickets: Collection[str]) -> None:
        for ticket in tickets:
            self.waiting.pop(ticket, None)

    def shutdown(self, *, cancel: bool) -> None:
        self.waiting.clear()


class TestInline(ExecutorContract):
    def make(self) -> Executor:
        return InlineExecutor()


class TestShuffled(ExecutorContract):
    def make(self) -> Executor:
        return Shuffled()


class Instant(Shuffled):
    """Out of order too, with scores that are given."""

    def __init__(self, make: MakeResult, scores: dict[int, float], seed: int) -> None:
        super().__init__(seed)
        self.make, self.scores = make, scores
        self.submitted: list[int] = []

    def submit(self, submission: Submission) -> None:
        self.submitted.append(submission.case.seed)
        super().submit(submission)

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        if not self.waiting:
            return
        generator = random.Random(self.seed + len(self.order))
        ticket = generator.choice(sorted(self.waiting))
        case = self.waiting.pop(ticket).case
        self.order.append(ticket)
        deliver(Started(ticket))
        deliver(Finished(ticket, self.make(case, self.scores.get(case.seed, 0.9))))


def evaluator_of(executor: Executor, folder: Path, **options: object) -> Evaluator:
    ledger = Ledger(folder / "ledger")
    ledger.open_session("s", {})
    return Evaluator(
        executor=executor,
        context=Context(accelerator="cpu"),
        store=ReferenceStore(folder / "references", builtin=folder / "none"),
        tracker=NoTracker(),
        ledger=ledger,
        session="s",
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(5))
def test_results_are_kept_when_they_come_whichever_is_waited_for(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, seed: int
) -> None:
    cases = [
        tiny_case,
        *(
            Case(**{**vars_of(tiny_case), "backbone": tiny_case.backbone.model_copy(
                update={"key": f"twin{index}"})})
            for index in range(4)
        ),
    ]  # fmt: skip
    executor = Instant(make_result, {}, seed)
    evaluator = evaluator_of(executor, tmp_path, seeds=3, seeds_given=True)
    for case in cases:
        evaluator.submit(case)
    evaluator.evaluate(cases[0])
    kept = {entry.entry for entry in Ledger(tmp_path / "ledger").entries()}
    assert kept == set(executor.order)  # every one that has run, also of cases not yet waited for
    for case in cases[1:]:
        evaluation = evaluator.evaluate(case)
        assert {result.case.backbone.key for result in evaluation.results} == {case.backbone.key}
        assert [result.case.seed for result in evaluation.results] == [0, 1, 2]
    assert len(executor.order) == 15


def vars_of(case: Case) -> dict[str, object]:
    from dataclasses import fields

    return {item.name: getattr(case, item.name) for item in fields(case)}


@pytest.mark.parametrize("seed", range(5))
def test_the_second_stage_is_submitted_as_soon_as_the_first_fails(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, seed: int
) -> None:
    references = {REFERENCE_SEED + index: 0.9 + index / 500 for index in range(4)}
    evaluator_of(Instant(make_result, references, 0), tmp_path, bands=Bands.ALL).evaluate(tiny_case)
    twin_entry = tiny_case.backbone.model_copy(update={"key": "twin"})
    twin = Case(**{**vars_of(tiny_case), "backbone": twin_entry})  # type: ignore[arg-type]
    extra = stages(len(references)).extra
    scores = {index: 0.5 + index / 100 for index in range(1 + extra)}
    executor = Instant(make_result, scores, seed)
    evaluator = evaluator_of(executor, tmp_path)
    evaluator.submit(tiny_case)
    evaluator.submit(twin)
    evaluator.evaluate(twin)  # waits for another case, whose own verdict needs no more seeds
    if "pixels_coarse" in executor.order[0]:
        assert executor.submitted == [0, *range(1 + extra)]
    evaluation = evaluator.evaluate(tiny_case)
    assert evaluation.verdict.stage == 2
    assert sorted(executor.submitted) == [0, *range(1 + extra)]
    assert evaluation.verdict.scores == scores
    assert evaluation.verdict.status is Status.FAIL


def test_a_result_is_on_the_disk_before_it_is_judged_or_recorded(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    seen = []

    class Looking(NoTracker):
        def finish_case(self, run_id: str | None, recorded: object) -> None:
            seen.append([entry.entry for entry in Ledger(tmp_path / "ledger").entries()])

    evaluator = evaluator_of(Instant(make_result, {}, 0), tmp_path)
    evaluator.tracker = Looking()
    evaluator.evaluate(tiny_case)
    assert len(seen) == 1
    assert len(seen[0]) == 1


def test_a_full_disk_costs_no_verdict(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    evaluator = evaluator_of(Instant(make_result, {}, 0), tmp_path)
    folder = tmp_path / "ledger" / "s"
    (folder / "session.json").unlink()
    folder.rmdir()
    folder.write_text("a file where the session's folder should be")
    evaluation = evaluator.evaluate(tiny_case)
    assert evaluation.verdict.status is Status.NO_REFERENCE
    assert len(evaluator.keeper.problems) == 1
    (unkept,) = evaluator.keeper.unkept
    assert "could not be kept" in unkept.problem
