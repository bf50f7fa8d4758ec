"""A store, a disk or a drawing that fails costs no result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bob.case import Case
from bob.ledger import Ledger
from tests.conftest import MakeResult
from tests.store_parts import ledger_of, runs_of


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_is_told_and_the_run_ends(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    """Drawing fails in earnest here: matplotlib's own encoder cannot write."""
    project.makeconftest(
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        def print_png(self, *args, **kwargs):
            raise RuntimeError("encoder is broken")

        FigureCanvasAgg.print_png = print_png
        """
    )
    result = project.runpytest_subprocess("-k", "coarse", *own_store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*confusion_matrix.png was left out: RuntimeError: encoder*"])
    result.stdout.fnmatch_lines(["pixels_coarse *top1*"])
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FINISHED"
    assert "confusion_matrix.png" in run.data.tags["bob.left_out"]
    assert run.data.metrics["top1"] > 0
    assert len(list(ledger_of(project).entries())) == 1


@pytest.mark.slow
def test_a_store_that_takes_no_files_ends_its_runs_and_sync_sends_them(
    project: pytest.Pytester, own_store: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bob.cli import main

    artifacts = project.path / "artifacts"
    artifacts.write_text("a file stands where the folder should be")
    result = project.runpytest_inprocess("-k", "coarse", *own_store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*result.json did not arrive*"])
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["top1"] > 0
    artifacts.unlink()
    monkeypatch.chdir(project.path)
    assert main(["sync", *own_store]) == 0
    (run,) = runs_of(own_store[1])
    assert "bob.unsent" not in run.data.tags
    assert (artifacts / "bob-tiny-finetune" / run.info.run_id).is_dir()


@pytest.mark.slow
def test_a_summary_that_cannot_be_written_leaves_no_session_open(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    """The ledger's disk is gone when the session ends."""
    from mlflow import MlflowClient

    project.makeconftest(
        """
        import shutil

        def pytest_bob_evaluated(config):
            shutil.rmtree(config.rootpath / "mlruns" / "ledger")
            (config.rootpath / "mlruns" / "ledger").write_text("")
        """
    )
    result = project.runpytest_inprocess("-k", "coarse", *own_store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*not kept on disk*", "summary of the session: *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    client = MlflowClient(tracking_uri=own_store[1])
    experiment = client.get_experiment_by_name("bob/tiny/sessions")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"


def test_a_result_that_is_no_json_is_told(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    from bob.errors import BobError
    from bob.ledger.records import Recorded, now

    ledger = Ledger(tmp_path)
    good = replace(make_result(tiny_case, 0.5), metrics={"top1": np.float32(0.5)})
    entry = Recorded(entry="x", session="s", role="check", time=now(), result=good)
    ledger.open_session("s", {})
    ledger.write(entry)
    (read,) = ledger.entries("s")
    assert read.result.metrics == {"top1": 0.5}
    bad = replace(good, metrics={"top1": object()})  # type: ignore[dict-item]
    with pytest.raises(BobError, match="cannot be written as a file"):
        ledger.write(replace(entry, entry="y", result=bad))


def test_metric_names_that_mlflow_refuses_are_sent_under_others() -> None:
    from bob.tracking.projection import epoch, metric_name

    assert metric_name("top1@5 日本") == "top1_5_日本"
    assert metric_name("shift//../a/") == "shift/_/_/a/_"
    assert metric_name("") == "_"
    assert metric_name("shift/blur") == "shift/blur"
    assert epoch({"a|b": 1.0}, 2) == (("a_b", 1.0, 2),)


def test_infinite_scores_have_means_and_no_spread() -> None:
    from bob.report.text import welch_z
    from bob.tracking.projection import mean_and_spread

    infinite = float("inf")
    means, spreads = mean_and_spread([{"loss": infinite}, {"loss": infinite}])
    assert means == {"loss": infinite}
    assert np.isnan(spreads["loss"])
    assert np.isnan(welch_z([infinite, infinite], [1.0, 2.0]))


@pytest.mark.slow
def test_a_reference_that_cannot_be_written_leaves_row_and_results(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    class Spoiler:
        """The folder becomes one that nobody can write to while the first case runs."""

        def pytest_runtest_setup(self) -> None:
            (project.path / "full").write_text("no folder")

    words = ["-k", "coarse", "--bands", "all", "--seeds", "2", "--references=full/below"]
    result = project.runpytest_inprocess(*words, *own_store, plugins=[Spoiler()])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["pixels_coarse *finetune *error"])
    assert len(list(ledger_of(project).entries())) == 2
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["top1"] > 0
