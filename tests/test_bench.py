from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bob.case import Case, Context, Failure, Result, Status
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.executors import (
    Deliver,
    Finished,
    Started,
    Submission,
    executor_names,
    make_executor,
)
from bob.references.files import ReferenceStore
from bob.references.gate import REFERENCE_SEED, stages
from bob.tracking import NoTracker
from tests.conftest import MakeResult


@dataclass
class Scripted:
    """An executor whose scores are given by seed, to see what the evaluator asks for and when."""

    make: MakeResult
    score: Callable[[int], float]
    ran: list[int] = field(default_factory=list)
    waiting: dict[str, Submission] = field(default_factory=dict)

    def submit(self, submission: Submission) -> None:
        self.waiting[submission.ticket] = submission

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        case = self.waiting.pop(waiting_for).case
        self.ran.append(case.seed)
        deliver(Started(waiting_for))
        deliver(Finished(waiting_for, self.make(case, self.score(case.seed))))

    def cancel(self, tickets: Collection[str]) -> None:
        for ticket in tickets:
            self.waiting.pop(ticket, None)

    def shutdown(self, *, cancel: bool) -> None:
        pass


def evaluator(
    tmp_path: Path, make: MakeResult, score: Callable[[int], float], **options: object
) -> tuple[Evaluator, Scripted]:
    executor = Scripted(make, score)
    made = Evaluator(
        executor=executor,
        context=Context(),
        store=ReferenceStore(tmp_path, builtin=tmp_path / "none"),
        tracker=NoTracker(),
    )
    return replace(made, **options), executor  # type: ignore[arg-type]


def steady(seed: int) -> float:
    return 0.9 + (seed % 5) / 500


def test_a_good_first_seed_is_enough(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    made, _ = evaluator(tmp_path, make_result, steady, bands=Bands.ALL)
    made.evaluate(tiny_case)
    made, executor = evaluator(tmp_path, make_result, steady)
    verdict = made.evaluate(tiny_case).verdict
    assert (verdict.status, verdict.stage) == (Status.PASS, 1)
    assert executor.ran == [0]


def test_one_unlucky_seed_is_forgiven_and_a_drop_is_not(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    made, executor = evaluator(tmp_path, make_result, steady, bands=Bands.ALL)
    made.evaluate(tiny_case)
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + tiny_case.reference_seeds)
    assert executor.ran == list(seeds)

    made, executor = evaluator(tmp_path, make_result, lambda seed: 0.86 if seed == 0 else 0.904)
    verdict = made.evaluate(tiny_case).verdict
    assert (verdict.status, verdict.stage) == (Status.PASS, 2)
    assert executor.ran == list(range(1 + stages(tiny_case.reference_seeds).extra))

    made, executor = evaluator(tmp_path, make_result, lambda seed: 0.80)
    verdict = made.evaluate(tiny_case).verdict
    assert (verdict.status, verdict.stage) == (Status.FAIL, 2)


def test_submitting_ahead_runs_nothing_twice(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    made, executor = evaluator(tmp_path, make_result, steady, seeds=3, seeds_given=True)
    twin = replace(tiny_case, backbone=tiny_case.backbone.model_copy(update={"key": "twin"}))
    made.submit(tiny_case)
    made.submit(twin)
    assert made.evaluate(twin).results[0].case.backbone.key == "twin"
    assert made.evaluate(tiny_case).results[0].case.backbone.key == "pixels_coarse"
    assert executor.ran == [0, 1, 2] * 2


def test_no_reference_is_written_from_a_failed_or_nan_run(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    made, _ = evaluator(tmp_path, make_result, lambda seed: float("nan"), bands=Bands.ALL)
    evaluation = made.evaluate(tiny_case)
    assert evaluation.verdict.status is Status.FAIL
    assert "no reference was written: top1 is nan" in evaluation.verdict.reason

    def fail(case: Case, score: float) -> Result:
        return Result(case=case, failure=Failure("error", "broken"))

    made, executor = evaluator(tmp_path, fail, steady, bands=Bands.ALL)
    assert made.evaluate(tiny_case).verdict.reason == "broken"
    assert executor.ran == [REFERENCE_SEED]
    assert not list(tmp_path.rglob("*.json"))


def test_executors_by_name() -> None:
    assert "inline" in executor_names()
    assert make_executor("inline")
    with pytest.raises(Exception, match="Did you mean 'inline'"):
        make_executor("in_line")
