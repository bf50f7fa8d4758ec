"""What goes wrong behind a result costs no result: pictures, plugins, hooks, messages, streams."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bob.artifacts.making import make
from bob.case import Case, Outcomes, Result, Status, Verdict
from bob.ledger import Ledger
from bob.shown import BLOCK, block, elided, line, markdown_text, visible
from bob.tabular import aligned, csv_bytes, markdown
from tests.conftest import MakeResult
from tests.photos import picture

ODD_NAMES = (
    "$10_$20", "a_b^c{", "\\frac{1}{2}$x$", "100% {x}", "", "a\nb\x1b[31mred", "日本語の猫",
    "日本人の猫", "كلب", "हिन्दी", "😀", "#&~", "x" * 5000, "\udcff", "\u202eevil", "$",
)  # fmt: skip


@pytest.fixture
def store(project: pytest.Pytester, empty_store: Callable[[Path], str]) -> tuple[str, str]:
    """The project's own store, and the words that name it."""
    return "--tracking-uri", empty_store(project.path / "mlflow.db")


def runs_of(uri: str) -> list[Any]:
    """Every run of a case that the store shows, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_experiments(filter_string="name LIKE 'bob/%'")
    runs = client.search_runs([experiment.experiment_id for experiment in found])
    cases = [run for run in runs if run.data.tags.get("bob.level") == "case"]
    return sorted(cases, key=lambda run: run.info.start_time)


def ledger_of(project: pytest.Pytester) -> Ledger:
    return Ledger(project.path / "mlruns" / "ledger")


def odd_result(case: Case, make_result: MakeResult) -> Result:
    """A result whose classes, backbone and dataset have odd names."""
    random = np.random.default_rng(0)
    count, classes = 400, len(ODD_NAMES)
    targets = random.integers(0, classes, count)
    top = np.stack([random.permutation(classes)[:5] for _ in range(count)]).astype(np.int32)
    outcomes = Outcomes(
        targets=targets,
        target_log_probabilities=np.full(count, -1, np.float32),
        top_classes=top,
        top_probabilities=np.full((count, 5), 0.2, np.float32),
        square_sums=np.full(count, 0.2, np.float32),
        class_names=ODD_NAMES,
    )
    odd = replace(
        case,
        backbone=case.backbone.model_copy(update={"key": "$a_$b \\x {y} %s \x1b[31m" + "k" * 60}),
        dataset=case.dataset.model_copy(update={"key": "folder:日本$1$_^"}),
    )
    return replace(
        make_result(odd, 0.5),
        outcomes=outcomes,
        history=({"train_loss": 2.0, "loss_$x$": 1.0, "top1": 0.1},) * 2,
    )


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.size


def test_every_picture_takes_every_name_literally(
    tiny_case: Case, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    from bob.artifacts import plots
    from bob.artifacts.classes import outcome_files
    from bob.artifacts.lettering import label
    from bob.artifacts.panels import PanelRow, retrieval_panel
    from bob.artifacts.seeds import seeds_picture
    from bob.heads.probe import PathPoint

    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # as a user's matplotlibrc may
    result = odd_result(tiny_case, make_result)
    assert result.outcomes is not None
    made = make(outcome_files(result.outcomes))
    assert not made.left_out
    result = replace(result, files=made.files, metrics={**result.metrics, "worst_class_top1": 0.1})
    case = result.case
    image = torch_image()
    rows = [
        PanelRow(image, f"{label(name, 16)}\n3 of 10", [(image, "right")]) for name in ODD_NAMES
    ]
    path = [PathPoint(c=10.0**power, top1=0.5, loss=1.0) for power in range(-6, 6)]
    verdict = Verdict(status=Status.PASS, reason="")
    cells = [(name, severity, 0.5) for name in ODD_NAMES for severity in (1, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that no font has is a warning
        contents = {
            "confusion.png": lambda: plots.confusion_matrix(result),
            "curve.png": lambda: plots.learning_curve(result),
            "path.png": lambda: plots.regularisation_path(case, path, 1.0),
            "shift.png": lambda: plots.shift_picture(case, cells, 0.7),
            "seeds.png": lambda: seeds_picture(case, [result, result], verdict),
            "panel.png": lambda: retrieval_panel(case, rows, "mAP 0.5"),
        }
        drawn = make(contents)
    assert drawn.left_out == ()
    assert all(min(size_of(content)) > 100 for content in drawn.files.values())


def torch_image() -> Any:
    import torch

    return torch.zeros(3, 32, 32, dtype=torch.uint8)


def test_a_dollar_is_drawn_as_a_dollar() -> None:
    from matplotlib.figure import Figure

    from bob.artifacts.lettering import png

    def drawn(text: str) -> bytes:
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, text)
        return png(figure)

    assert drawn("$10$") != drawn("10"), "as a formula it would lose its signs"
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "\\$10\\$", parse_math=True)
    assert size_of(png(figure)) == size_of(drawn("$10$"))


def test_names_stay_apart_in_pictures() -> None:
    from bob.artifacts.lettering import label, labels

    assert label("日本") == "\\u65e5\\u672c" or label("日本") == "日本"  # where a font has it
    assert label("") == "(no name)"
    assert label("a\n\x1bb") == "a \\x1bb"
    assert label("\x00") == "\\x00"
    assert len(label("y" * 5000, 16)) == 16
    names = ["very_long_prefix_of_a_class_x_0001", "very_long_prefix_of_a_class_y_0001", "other"]
    shown = labels(names, 12)
    assert len(set(shown)) == 3
    assert shown[0].startswith("0: ")
    assert shown[2] == "other"
    assert all(len(text) <= 12 for text in shown)


def test_an_artifact_that_fails_costs_itself_alone() -> None:
    def broken() -> bytes:
        raise ValueError("no \x1b[31mfont\n" + "z" * 5000)

    made = make({
        "good.csv": b"1", "bad.png": broken, "none.png": lambda: None, "later.csv": lambda: b"2",
        "../outside": b"3", "n\x00ul": b"4", "a/b.csv": b"5", "x" * 300: b"6", "": b"7",
    })  # fmt: skip
    assert made.files == {"good.csv": b"1", "later.csv": b"2", "a/b.csv": b"5"}
    assert len(made.left_out) == 5
    (told,) = [text for text in made.left_out if text.startswith("bad.png")]
    assert "ValueError" in told
    assert "\x1b" not in told
    assert "\n" not in told
    assert len(told) < 300


def test_tables_take_names_that_are_not_text() -> None:
    assert b"\\udcff" in csv_bytes(("class",), [["\udcff"]])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of images whose classes are called what users call them."""
    names = ("$10_$20", "a\x1b[31mb_|<b>", "日本")
    colours = ((40, 60, 220), (40, 200, 60), (220, 40, 40))
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        for split, count in (("train", 8), ("test", 4)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for image in range(count):
                picture(colour, 100 * number + image + 50 * (split == "test")).save(
                    folder / f"{image}.png"
                )
    return tmp_path / "photos"


@pytest.mark.slow
def test_classes_of_any_name_are_kept_and_shown(
    project: pytest.Pytester, store: tuple[str, str], photographs: Path
) -> None:
    words = ["--dataset", f"folder:{photographs}", "--backbone", "pixels_coarse"]
    result = project.runpytest_inprocess(*words, *store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*pixels_coarse *finetune *top1*"])
    assert "\x1b[31mb_" not in result.stdout.str()
    (run,) = runs_of(store[1])
    assert run.info.status == "FINISHED"
    assert "bob.left_out" not in run.data.tags
    assert not any("\x1b" in value for value in run.data.tags.values())
    (entry,) = ledger_of(project).entries()
    assert entry.result.outcomes is not None
    assert "$10_$20" in entry.result.outcomes.class_names


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_is_told_and_the_run_ends(
    project: pytest.Pytester, store: tuple[str, str]
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
    result = project.runpytest_subprocess("-k", "coarse", *store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*confusion_matrix.png was left out: RuntimeError: encoder*"])
    result.stdout.fnmatch_lines(["pixels_coarse *top1*"])
    (run,) = runs_of(store[1])
    assert run.info.status == "FINISHED"
    assert "confusion_matrix.png" in run.data.tags["bob.left_out"]
    assert run.data.metrics["top1"] > 0
    assert len(list(ledger_of(project).entries())) == 1


@pytest.mark.slow
def test_a_store_that_takes_no_files_ends_its_runs_and_sync_sends_them(
    project: pytest.Pytester, store: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bob.cli import main

    artifacts = project.path / "artifacts"
    artifacts.write_text("a file stands where the folder should be")
    result = project.runpytest_inprocess("-k", "coarse", *store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*result.json did not arrive*"])
    (run,) = runs_of(store[1])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["top1"] > 0
    artifacts.unlink()
    monkeypatch.chdir(project.path)
    assert main(["sync", *store]) == 0
    (run,) = runs_of(store[1])
    assert "bob.unsent" not in run.data.tags
    assert (artifacts / "bob-tiny-finetune" / run.info.run_id).is_dir()


RERUN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    # what pytest-rerunfailures does: the whole protocol again, on the same item
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem, log=False)
    item._initrequest()
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["1", "2"])
def test_a_case_that_a_plugin_runs_twice_counts_once(
    seeds: str,
    project: pytest.Pytester,
    store: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bob.cli import main
    from bob.report.sources import scores_of_ledger

    project.makeconftest(RERUN)
    words = ["-k", "coarse", "--seeds", seeds, "--junitxml", "junit.xml", *store]
    result = project.runpytest_inprocess(*words)
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("pixels_coarse  finetune") == 1
    xml = (project.path / "junit.xml").read_text()
    assert xml.count('name="bob.case"') == 1
    (run,) = runs_of(store[1])
    assert run.info.run_id in xml, "the last time counts"
    ledger = ledger_of(project)
    assert len(list(ledger.entries())) == 2 * int(seeds), "the ledger forgets nothing"
    rows = [row for row in scores_of_ledger(ledger) if row.is_score]
    assert len(rows) == int(seeds)
    monkeypatch.chdir(project.path)
    capsys.readouterr()
    assert main(["sync", *store]) == 0
    assert "0 results and 0 verdicts sent" in capsys.readouterr().out
    assert [again.info.run_id for again in runs_of(store[1])] == [run.info.run_id]


TIMEOUT = """
import signal
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    # what pytest-timeout does with its method "signal"
    def expire(signum, frame):
        pytest.fail("Timeout (>1.0s) from a plugin.")
    if "coarse" not in item.name:
        return (yield)
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
"""

SLOW_BACKBONE = """
import time
from bob.backbones.micro import pooled_pixels as whole

def pooled_pixels(**arguments):
    time.sleep(60)
    return whole(**arguments)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("signal"), "SIGALRM"), reason="no alarms here")
def test_a_time_limit_of_a_plugin_leaves_a_row(
    project: pytest.Pytester, store: tuple[str, str]
) -> None:
    project.makeconftest(TIMEOUT)
    project.makepyfile(slow_backbone=SLOW_BACKBONE)
    words = ["--backbone", "slow_backbone:pooled_pixels,name=coarse", "--backbone", "pixels_fine"]
    result = project.runpytest_inprocess(*words, *store)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Timeout (>1.0s) from a plugin.*", "coarse *error"])
    result.stdout.fnmatch_lines(["pixels_fine *top1*"])
    states = {run.data.tags["bob.backbone"]: run.info.status for run in runs_of(store[1])}
    assert states == {"coarse": "FAILED", "pixels_fine": "FINISHED"}
    failures = [entry.result.failure for entry in ledger_of(project).entries()]
    (failure,) = [failure for failure in failures if failure is not None]
    assert failure.kind == "stopped"
    assert "Timeout" in failure.message


def test_an_alarm_waits_while_a_record_is_written() -> None:
    import signal

    from bob import interrupts

    class Expired(Exception):
        pass

    def expire(signum: int, frame: object) -> None:
        raise Expired

    def write() -> None:
        with interrupts.held():
            with interrupts.held():
                signal.raise_signal(signal.SIGALRM)
            done.append("written")

    before = signal.signal(signal.SIGALRM, expire)
    done: list[str] = []
    try:
        with pytest.raises(Expired):
            write()
        assert done == ["written"]
        assert signal.getsignal(signal.SIGALRM) is expire
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_a_hook_that_raises_costs_nothing(project: pytest.Pytester, store: tuple[str, str]) -> None:
    project.makepyfile(
        other="def pytest_bob_evaluated(evaluation): print('other', evaluation.case)"
    )
    project.makeconftest(
        """
        pytest_plugins = ["other"]

        def pytest_bob_evaluated(evaluation):
            raise RuntimeError("my tracker is down \\x1b[31m")
        """
    )
    words = ["-k", "coarse", "--junitxml", "junit.xml", "-rP", *store]
    result = project.runpytest_inprocess(*words)
    result.assert_outcomes(passed=1, warnings=2)
    result.stdout.fnmatch_lines(["*pytest_bob_evaluated of *conftest.py raised RuntimeError: my*"])
    result.stdout.fnmatch_lines(["other *"])
    assert 'name="bob.mlflow_run"' in (project.path / "junit.xml").read_text()
    (run,) = runs_of(store[1])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_hook_may_decide_and_the_record_stands(
    project: pytest.Pytester, store: tuple[str, str]
) -> None:
    project.makeconftest(
        """
        import pytest

        def pytest_bob_evaluated(evaluation):
            pytest.fail("my own gate")
        """
    )
    result = project.runpytest_inprocess("-k", "coarse", *store)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*my own gate*", "pixels_coarse *top1*"])
    (run,) = runs_of(store[1])
    assert run.info.status == "FINISHED"


LOUD_BACKBONE = """
def pooled_pixels(**arguments):
    raise RuntimeError("\\x1b[31mred\\x07 " + "long " * 5400 + "the end")
"""


@pytest.mark.slow
def test_a_long_message_with_escapes_is_cut_and_kept_whole_once(
    project: pytest.Pytester, store: tuple[str, str]
) -> None:
    project.makepyfile(loud_backbone=LOUD_BACKBONE)
    words = ["--backbone", "loud_backbone:pooled_pixels,name=lo|ud\x1b[32m", "-s", *store]
    result = project.runpytest_inprocess(*words, "--junitxml", "junit.xml")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "characters are left out here; all of it: result.json of the run" in text
    assert len(text) < 40_000
    (entry,) = ledger_of(project).entries()
    assert entry.result.failure is not None
    assert len(entry.result.failure.message) > 27_000
    (run,) = runs_of(store[1])
    assert run.info.status == "FAILED"
    for value in (*run.data.tags.values(), run.info.run_name, *run.data.params.values()):
        assert "\x1b" not in value
        assert len(value) <= 500
    assert len((project.path / "junit.xml").read_text()) < 60_000
    (session,) = ledger_of(project).sessions()
    summary = ledger_of(project).summary(session)
    assert summary is not None
    assert "lo\\|ud\\\\x1b" in summary["table"]
    assert len(json.dumps(summary)) < 20_000


@pytest.mark.slow
def test_an_ascii_terminal_is_written_to(project: pytest.Pytester) -> None:
    project.makepyfile(loud_backbone="def pooled_pixels(**kw): raise RuntimeError('Δ 日本')")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = ["--backbone", "loud_backbone:pooled_pixels,name=Δ日本", "--backbone", "pixels_coarse"]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--progress", "lines"],
        cwd=project.path, env=environment, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    text = found.stdout.decode("ascii")
    assert "UnicodeEncodeError" not in text + found.stderr.decode("ascii")
    assert "INTERNALERROR" not in text
    assert found.returncode == 1
    assert "battle of the backbones" in text
    assert "\n\\u0394\\u65e5\\u672c " in text
    assert "1 failed, 1 passed" in text
    listed = subprocess.run(
        [sys.executable, "-m", "bob.cli", "list", "references"],
        cwd=project.path, env=environment, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert b"\\xb1" in listed.stdout


@pytest.mark.slow
def test_a_summary_that_cannot_be_written_leaves_no_session_open(
    project: pytest.Pytester, store: tuple[str, str]
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
    result = project.runpytest_inprocess("-k", "coarse", *store)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*not kept on disk*", "summary of the session: *"])
    client = MlflowClient(tracking_uri=store[1])
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


def test_text_is_shown_without_what_acts() -> None:
    assert visible("plain ünï 日本 😀") == "plain ünï 日本 😀"
    assert visible("a\x1b[31m\x07\x00\x9b\u202e\udcff") == "a\\x1b[31m\\x07\\x00\\x9b\\u202e\\udcff"
    assert line("a\r\nb\tc\u2028d") == "a b\\tc d"
    assert block("a\r\nb\tc\x1b") == "a\nb\tc\\x1b"
    assert elided("abcdefghij", 5) == "ab…ij"
    assert elided("abc", 3) == "abc"
    long = block("x" * 30_000, whole="there")
    assert len(long) < BLOCK + 100
    assert "[26,000 characters are left out here; all of it: there]" in long


def test_markdown_shows_cells_literally() -> None:
    assert markdown_text("a|b<i>`c`*d*[x](http://y)\n\x1b") == (
        "a\\|b&lt;i&gt;\\`c\\`\\*d\\*[x\\](http://y) \\\\x1b"
    )
    assert markdown_text("swin_micro_glyphs [0.9, 1.0]") == "swin_micro_glyphs [0.9, 1.0]"
    table = markdown([("a|b", "c"), ("d\ne", "f")])
    assert [row.count("|") - row.count("\\|") for row in table.splitlines()] == [3, 3, 3]
    assert aligned([("a\nb", "c\x1b")]) == ["a b  c\\x1b"]


def test_the_command_writes_nothing_that_acts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bob.cli import main

    catalog = tmp_path / "loud.yaml"
    catalog.write_text(
        'backbones:\n  loud: {family: x, source: "timm:x", pretraining: "\\e[31mred", '
        'note: "\\e]0;title\\a", scales: []}\n'
    )
    assert main(["list", "backbones", "--catalog", str(catalog)]) == 0
    text = capsys.readouterr().out
    assert "loud" in text
    assert "\\x1b[31mred" in text
    assert "\x1b" not in text
    assert main(["profile", "--catalog", str(tmp_path / "no\x1b[31m.yaml")]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_reference_that_cannot_be_written_leaves_row_and_results(
    project: pytest.Pytester, store: tuple[str, str]
) -> None:
    (project.path / "full").write_text("no folder")
    words = ["-k", "coarse", "--bands", "all", "--seeds", "2", "--references", "full/below"]
    result = project.runpytest_inprocess(*words, *store)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["pixels_coarse *finetune *error"])
    assert len(list(ledger_of(project).entries())) == 2
    (run,) = runs_of(store[1])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["top1"] > 0


@pytest.mark.slow
def test_a_new_reference_is_told_although_its_test_runs_twice(
    project: pytest.Pytester, store: tuple[str, str]
) -> None:
    project.makeconftest(RERUN)
    words = ["-k", "coarse", "--bands", "new", "--seeds", "2", *store]
    result = project.runpytest_inprocess(*words)
    result.stdout.fnmatch_lines(["*references written*", "pixels_coarse finetune/digits: 2 seeds"])
    assert result.stdout.str().count("pixels_coarse  finetune") == 1
    assert {run.info.status for run in runs_of(store[1])} == {"FINISHED"}
