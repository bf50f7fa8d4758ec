"""The record: a real SQLite store, a real server, and stores that cannot be used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from bob.case import Case, Context
from bob.closing import TERMINATED
from bob.errors import BobError
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.ledger import Ledger
from bob.references.files import ReferenceStore
from bob.tracking import Destination, Tracker, check_reachable, resolve_store
from tests.store_parts import start_slow_session, statuses


def evaluator_of(tracker: Tracker, tmp_path: Path, **options: Any) -> Evaluator:
    """An evaluator that keeps and records as a session does."""
    ledger = Ledger(tracker.store.ledger)
    ledger.open_session(tracker.session, tracker.facts)
    return Evaluator(
        executor=make_executor("inline"),
        context=Context(accelerator="cpu"),
        store=ReferenceStore(tmp_path / "references"),
        tracker=tracker,
        ledger=ledger,
        session=tracker.session,
        **options,
    )


def test_a_case_is_recorded_whole(tracker: Tracker, tiny_case: Case, tmp_path: Path) -> None:
    evaluation = evaluator_of(tracker, tmp_path).evaluate(tiny_case)
    run = tracker.client.get_run(evaluation.run_ids[0])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "pixels_coarse-digits-s0"
    experiment = tracker.client.get_experiment(run.info.experiment_id)
    assert experiment.name == "bob/tiny/finetune"

    tags = run.data.tags
    assert tags["bob.case"] == tiny_case.id
    axes = ("bob.backbone", "bob.task", "bob.dataset", "bob.scale", "bob.seed", "bob.verdict")
    assert [tags[axis] for axis in axes] == [
        "pixels_coarse", "finetune", "digits", "tiny", "0", "no reference",
    ]  # fmt: skip
    assert tags["bob.session"] == tracker.session
    assert tags["env.device"] == "cpu"
    assert tags["env.torch"]
    assert tags["bob.data"] == tiny_case.dataset.sha256

    assert run.data.params["lr"] == "0.05"
    assert run.data.params["arg.grid"] == "4"
    assert run.data.metrics["top1"] == evaluation.verdict.mean
    curve = tracker.client.get_metric_history(run.info.run_id, "test_loss")
    assert [point.step for point in curve] == [1, 2]
    assert any(name.startswith("system/") for name in run.data.metrics)
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "digits"
    assert tiny_case.dataset.sha256.startswith(given.dataset.digest)

    names = {item.path for item in tracker.client.list_artifacts(run.info.run_id)}
    pictures = {"confusion_matrix.png", "learning_curve.png"}
    assert names == {"result.json", "ledger.json", "outcomes.npz", "classes.csv", *pictures}
    folder = Path(tracker.client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    record = json.loads((folder / "result.json").read_text())
    assert record["case"] == tiny_case.id
    assert record["metrics"]["top1"] == run.data.metrics["top1"]
    outcomes = np.load(folder / "outcomes.npz")
    right = outcomes["top_classes"][:, 0] == outcomes["targets"]
    assert len(right) == tiny_case.dataset.test_size
    assert right.mean() == pytest.approx(record["metrics"]["top1"])
    for name in pictures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_several_seeds_are_one_run_with_nested_ones(
    tracker: Tracker, tiny_case: Case, tmp_path: Path
) -> None:
    made = evaluator_of(tracker, tmp_path, bands=Bands.ALL)
    made.evaluate(tiny_case)
    evaluation = evaluator_of(tracker, tmp_path, seeds=3, seeds_given=True).evaluate(tiny_case)
    assert not tracker.problems
    assert evaluation.run_id is not None
    assert evaluation.run_id not in evaluation.run_ids
    parent = tracker.client.get_run(evaluation.run_id)
    seeds = [tracker.client.get_run(run_id) for run_id in evaluation.run_ids]
    assert len(seeds) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {evaluation.run_id}
    assert {run.data.tags["bob.level"] for run in seeds} == {"seed"}
    assert parent.data.tags["bob.level"] == "case"
    assert parent.data.tags["bob.seeds"] == "0 1 2"
    assert parent.data.tags["bob.verdict"] == evaluation.verdict.status
    assert parent.info.run_name == tiny_case.name
    assert parent.info.start_time <= min(run.info.end_time for run in seeds)
    scores = [run.data.metrics["top1"] for run in seeds]
    metrics = parent.data.metrics
    assert metrics["top1"] == pytest.approx(fmean(scores))
    assert metrics["top1_spread"] == pytest.approx(stdev(scores))
    for comparison in evaluation.verdict.comparisons:
        assert metrics[f"{comparison.metric}_band_low"] == comparison.low
        assert metrics[f"{comparison.metric}_band_high"] == comparison.high
    assert len(evaluation.verdict.comparisons) == 3
    curve = tracker.client.get_metric_history(evaluation.run_id, "test_loss")
    assert [point.step for point in curve] == [1, 2]
    files = {item.path for item in tracker.client.list_artifacts(evaluation.run_id)}
    assert files == {"verdict.json", "seeds.png"}


def test_the_session_run_carries_the_table(project: pytest.Pytester, shared_store: str) -> None:
    from mlflow import MlflowClient

    project.runpytest("-k", "fine-digits").assert_outcomes(passed=1, warnings=1)
    client = MlflowClient(shared_store)
    experiment = client.get_experiment_by_name("bob/tiny/sessions")
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id], max_results=1)[0]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["cases_no_reference"] == 1
    table = Path(client.download_artifacts(run.info.run_id, "summary.md")).read_text()
    assert "| pixels_fine | finetune | digits | top1 0." in table
    rows = json.loads(Path(client.download_artifacts(run.info.run_id, "summary.json")).read_text())
    assert rows[0]["backbone"] == "pixels_fine"
    assert (
        client.get_run(rows[0]["runs"][0]).data.tags["bob.session"] == run.data.tags["bob.session"]
    )


def test_git_state_is_recorded(project: pytest.Pytester, shared_store: str) -> None:
    from mlflow import MlflowClient

    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command],
            cwd=project.path, check=True,
        )  # fmt: skip
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project.path, check=True, capture_output=True, text=True
    ).stdout.strip()
    client = MlflowClient(shared_store)

    def newest_tags() -> dict[str, str]:
        project.runpytest("-k", "fine-digits")
        experiment = client.get_experiment_by_name("bob/tiny/finetune")
        assert experiment is not None
        tags: dict[str, str] = client.search_runs([experiment.experiment_id])[0].data.tags
        return tags

    tags = newest_tags()
    assert tags["mlflow.source.git.commit"] == head
    assert tags["bob.git_dirty"] == "false"
    (project.path / "test_suite.py").open("a").write("\n# changed\n")
    assert newest_tags()["bob.git_dirty"] == "true"


def test_default_store_is_sqlite_under_the_root(tmp_path: Path) -> None:
    store = resolve_store(tmp_path, "")
    assert store.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.artifacts == tmp_path / "mlruns" / "artifacts"
    assert resolve_store(tmp_path, "sqlite:///a/b.db").uri == f"sqlite:///{tmp_path}/a/b.db"
    assert resolve_store(tmp_path, "https://host").artifacts is None
    with pytest.raises(BobError, match="file store is no longer supported"):
        resolve_store(tmp_path, "mlruns")


def test_a_folder_that_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("not a folder")
    with pytest.raises(BobError, match=r"Cannot write to .*mlruns .*Nothing was run"):
        check_reachable(resolve_store(tmp_path, ""))


READ_ONLY = """
import os, sys
from pathlib import Path
from bob.tracking.destination import check_reachable, resolve_store

if os.geteuid() == 0:  # nothing is read-only for root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
check_reachable(resolve_store(Path(sys.argv[1]), ""))
"""


def test_read_only_mlruns() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "mlruns").mkdir()
        (Path(name) / "mlruns").chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, name], capture_output=True, text=True, check=False
        )
    assert "BobError: Cannot write to" in done.stderr
    assert "(Permission denied). Nothing was run." in done.stderr
    assert "--tracking-uri=sqlite:////path/mlflow.db" in done.stderr


@pytest.mark.slow
def test_a_real_server_over_http(
    project: pytest.Pytester,
    mlflow_server: tuple[str, subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    tiny_case: Case,
    tmp_path: Path,
) -> None:
    from mlflow import MlflowClient

    uri, process = mlflow_server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    result = project.runpytest("-o", "bob_tracking_uri=", "-k", "fine-digits")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines([f"MLflow: session * in {uri}"])
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("bob/tiny/finetune")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert "confusion_matrix.png" in {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {path.name for path in (project.path / "mlruns").iterdir()} == {"ledger"}

    # The server dies while a case runs: the verdict stands and the result is kept.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(Destination(uri, None, tmp_path / "ledger"), "tiny", tmp_path)
    tracker.start_session({})
    evaluator = evaluator_of(tracker, tmp_path)
    evaluator.submit(tiny_case)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    evaluation = evaluator.evaluate(tiny_case)
    assert evaluation.verdict.status == "no reference"
    (kept,) = Ledger(tmp_path / "ledger").entries()
    assert kept.result.score == evaluation.verdict.mean
    assert tracker.problems
    tracker.finish_session("", [], {}, "FINISHED")


@pytest.mark.slow
def test_two_sessions_may_start_a_new_store_at_once(project: pytest.Pytester) -> None:
    uri = f"sqlite:///{project.path}/both.db"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tracking-uri", uri]
    both = [
        subprocess.Popen(
            command, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert "not recorded in MLflow" not in output


def test_a_run_whose_id_nobody_learnt_is_ended_too(
    tracker: Tracker, shared_store: str, tiny_case: Case, tmp_path: Path
) -> None:
    """An interrupt may come after the store has made a run and before it is known here."""
    lost = tracker.start_case(tiny_case, role="check", entry="x")
    other = Tracker(resolve_store(tmp_path, shared_store), "tiny", tmp_path)
    other.start_session({})
    theirs = other.start_case(tiny_case, role="check", entry="x")
    tracker.finish_session("", [], {}, "KILLED")

    def status(run_id: str | None) -> str:
        assert run_id is not None
        return str(tracker.client.get_run(run_id).info.status)

    assert not tracker.problems
    assert [status(run_id) for run_id in (lost, tracker.session_run)] == ["KILLED", "KILLED"]
    assert [status(run_id) for run_id in (theirs, other.session_run)] == ["RUNNING", "RUNNING"]
    other.kill(theirs)
    other.finish_session("", [], {}, "FINISHED")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_finished(project: pytest.Pytester, how: signal.Signals) -> None:
    from mlflow import MlflowClient

    database = project.path / "interrupt.db"
    process = start_slow_session(
        project, database, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # jobs that a shell runs in the background inherit that SIGINT is ignored
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    process.send_signal(how)
    output, _ = process.communicate(timeout=120)
    expected = TERMINATED if how is signal.SIGTERM else pytest.ExitCode.INTERRUPTED
    assert process.returncode == expected, output
    assert statuses(database) == {"pixels_coarse": "FINISHED", "slow": "KILLED"}
    assert "pixels_coarse" in output
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("bob/tiny/sessions")
    assert experiment is not None
    (session,) = client.search_runs([experiment.experiment_id])
    assert session.info.status == "KILLED"
    assert session.data.metrics["cases_no_reference"] == 1
