"""Settings of a grid as nested runs, and a grid that diverges."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from bob.case import Case, Status
from bob.errors import GridDiverged, TrainingDiverged
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.references.files import ReferenceStore
from bob.tracking import Tracker
from tests.grid_parts import DIVERGES, QUIET, with_grid


def children(tracker: Tracker, parent: str) -> list[Any]:
    run = tracker.client.get_run(parent)
    return list(
        tracker.client.search_runs(
            [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
        )
    )


def evaluator(tracker: Tracker, tmp_path: Path) -> Evaluator:
    return Evaluator(
        executor=make_executor("inline"),
        context=QUIET,
        store=ReferenceStore(tmp_path / "references"),
        tracker=tracker,
    )


def test_every_setting_is_a_nested_run(tracker: Tracker, tiny_case: Case, tmp_path: Path) -> None:
    case = with_grid(tiny_case, lr=(1e-6, 0.05, DIVERGES), weight_decay=(0.05,))
    evaluation = evaluator(tracker, tmp_path).evaluate(case)
    assert evaluation.failure is None
    assert not tracker.problems
    (parent,) = evaluation.run_ids
    runs = {float(run.data.params["lr"]): run for run in children(tracker, parent)}
    assert set(runs) == {1e-6, 0.05, DIVERGES}
    for run in runs.values():
        assert run.data.params["weight_decay"] == "0.05"
        assert run.data.tags["bob.role"] == "trial"
        assert run.data.tags["bob.case"] == case.id
    assert runs[DIVERGES].info.status == "FAILED"
    assert "became" in runs[DIVERGES].data.tags["bob.failure"]
    assert "val_top1" not in runs[DIVERGES].data.metrics
    assert {runs[lr].info.status for lr in (1e-6, 0.05)} == {"FINISHED"}
    (result,) = evaluation.results
    for trial in result.trials:
        for name, value in trial.metrics.items():
            assert runs[trial.params["lr"]].data.metrics[name] == value
    assert {lr: run.data.tags["bob.chosen"] for lr, run in runs.items()} == {
        1e-6: "false", 0.05: "true", DIVERGES: "false",
    }  # fmt: skip
    case_run = tracker.client.get_run(parent)
    assert case_run.data.tags["bob.chosen"] == "lr 0.05, weight_decay 0.05"
    assert case_run.data.metrics["grid_lr"] == 0.05
    curve = tracker.client.get_metric_history(parent, "test_loss")
    assert [point.step for point in curve] == [1, 2]  # no epoch of a tried setting among them
    assert any("1 of 3 settings of the grid diverged" in text for text in result.remarks)


def test_a_grid_that_diverges_whole_is_one_clear_error(
    tracker: Tracker, tiny_case: Case, tmp_path: Path
) -> None:
    case = with_grid(tiny_case, lr=(DIVERGES, DIVERGES * 10), weight_decay=(0.05,))
    evaluation = evaluator(tracker, tmp_path).evaluate(case)
    assert evaluation.failure is not None
    assert evaluation.failure.kind == "nan-loss"
    assert evaluation.verdict.status is Status.FAIL
    message = evaluation.failure.message
    assert "Every setting of the grid diverged: lr 1e+30, weight_decay 0.05; lr 1e+31" in message
    assert "Put lower learning rates into the grid." in message
    (parent,) = evaluation.run_ids
    assert tracker.client.get_run(parent).info.status == "FAILED"
    assert [run.info.status for run in children(tracker, parent)] == ["FAILED", "FAILED"]


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(GridDiverged("all of them")))
    assert isinstance(error, TrainingDiverged)
    assert (str(error), error.kind) == ("all of them", "nan-loss")
