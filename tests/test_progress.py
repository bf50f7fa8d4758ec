"""What is shown of running cases: texts by themselves, and the screen of a real session."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case, Progress
from bob.progress.board import Board, Running, View, share_done
from bob.progress.words import block, cells, describe, duration, fitted, log_line, whole
from tests.screen_parts import Screen, screens
from tests.store_parts import SLOW_NET


@pytest.fixture
def case(tiny_case: Case) -> Case:
    return tiny_case


def trained(epoch: int, step: int, *, loss: float | None = None) -> Progress:
    return Progress(phase="train", epoch=epoch, epochs=10, step=step, steps=20, loss=loss)


def named(case: Case, name: str) -> Case:
    return replace(case, backbone=case.backbone.model_copy(update={"key": name}))


def running(case: Case, **values: object) -> Running:
    found = {"progress": trained(2, 5), "score": 0.91234, "loss": 0.43211, "left": 61.0, **values}
    return Running(case=case, **found)  # type: ignore[arg-type]


def test_a_line_tells_where_a_case_stands(case: Case) -> None:
    name = f"{case.name} {case.task} seed {case.seed}"
    assert describe(running(case)) == (
        f"{name}: epoch 3/10 step 5/20 loss 0.4321 top1 0.9123, 61 s left"
    )
    bare = {"score": None, "loss": None, "left": None}
    for progress, words in (
        (None, "started"),
        (Progress(phase="load"), "loading"),
        (Progress(phase="extract", step=3, steps=9), "extract 3/9"),
        (Progress(phase="search", step=0, steps=6), "grid 1/6"),
        (Progress(phase="evaluate", epoch=1, epochs=4), "epoch 2/4 evaluating"),
        (Progress(phase="evaluate", step=8, steps=60), "evaluating 8/60"),
        (Progress(phase="evaluate"), "evaluating"),
        (Progress(phase="epoch", epoch=9, epochs=10), "epoch 10/10"),
    ):
        assert describe(running(case, progress=progress, **bare)) == f"{name}: {words}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.2, "3 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (6000, "1.7 h"), (4e5, "4.6 d")],
)
def test_durations_have_one_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    "name", ["swin_tiny", "バックボーン_大きい", "e\u0301tude\u200d🦀", "x" * 300]
)
@pytest.mark.parametrize("width", [1, 7, 20, 39, 79, 200])
def test_no_line_is_wider_than_the_terminal(case: Case, name: str, width: int) -> None:
    many = tuple(running(named(case, name)) for _ in range(30))
    view = View(done=412, known=1000, running=many, left=86400.0 * 3)
    lines = block(view, width=width, height=8)
    assert len(lines) == 8
    assert max(map(cells, lines)) <= width
    assert "412/1000" in lines[0] or width < 20
    assert lines[-1] == fitted("... and 24 more", width)


def test_a_narrow_line_keeps_where_the_case_stands(case: Case) -> None:
    view = View(done=0, known=1, running=(running(case),), left=None)
    rows = {width: block(view, width=width, height=5)[1] for width in (39, 60, 79, 120)}
    assert rows[39] == "pix…ts: epoch 3/10 step 5/20, 61 s left"
    assert rows[79] == f"{case.name}: epoch 3/10 step 5/20 loss 0.4321 top1 0.9123, 61 s left"
    assert rows[120] == describe(running(case))
    assert fitted("ボボボボ", 5) == "ボ…ボ"


def test_a_block_is_no_higher_than_asked(case: Case) -> None:
    for count in (0, 1, 2, 7, 1000):
        view = View(done=0, known=1000, running=(running(case),) * count, left=None)
        for height in (1, 2, 3, 8):
            lines = block(view, width=80, height=height)
            assert len(lines) == min(height, count + 1)


def test_the_bar_grows_with_what_is_done() -> None:
    view = View(done=3, known=12, running=(), left=100.0)
    assert whole(view, width=80) == f"[{'#' * 7}{'.' * 23}] 3/12 runs, 2 min left"
    assert whole(replace(view, done=12, left=0.0), width=80) == f"[{'#' * 30}] 12/12 runs"
    assert whole(view, width=12) == "3/12 runs, 2 min left"


def test_a_log_line_names_the_running_cases_and_nothing_more(case: Case) -> None:
    name = f"{case.name} {case.task} seed {case.seed}"
    two = View(done=3, known=12, running=(running(case),) * 2, left=600.0)
    assert log_line(two) == f"bob: 3/12 runs done, 10 min left; running: {name}, {name}"
    many = replace(two, running=(running(case),) * 9)
    assert log_line(many).endswith("and 5 more")
    assert "\n" not in log_line(many)


def test_the_rest_is_estimated_by_the_plan_corrected_by_what_was_measured(case: Case) -> None:
    board = Board()
    other = replace(case, task="knn")
    hours = {"a": (case, 1.0), "b": (case, 3.0), "c": (other, 1.0), "d": (case, None)}
    for ticket, (planned, estimate) in hours.items():
        board.planned(ticket, planned, estimate)
    assert board.view(0.0).left is None  # nothing has been measured
    board.started("a", 0.0)
    board.ended("a", 10.0)  # an hour of the plan takes 10 s here
    # b: 30 s; c, of a task of which nothing ran, 10 s; d, of unknown cost, as long as a
    assert board.view(10.0).left == pytest.approx(30 + 10 + 10)
    board.started("c", 10.0)
    board.ended("c", 12.0)
    assert board.view(12.0).left == pytest.approx(30 + 10)
    board.started("b", 12.0)
    board.started("d", 12.0)
    assert board.view(16.0).left == pytest.approx(max((26 + 6) / 2, 26))
    board.dropped("d")
    board.ended("b", 50.0)
    view = board.view(50.0)
    assert (view.done, view.known, view.left) == (3, 3, 0.0)


def test_a_case_is_estimated_by_its_own_pace(case: Case) -> None:
    board = Board()
    board.planned("a", case, None)
    board.started("a", 0.0)
    for epoch, step, now in ((0, 1, 100.0), (4, 20, 149.75)):
        board.moved("a", trained(epoch, step, loss=0.5), now)
    (run,) = board.view(149.75).running
    assert share_done(trained(4, 20)) == 0.5
    assert run.left == pytest.approx(0.5 * 49.75 / (0.5 - 0.005))
    later = 0.5 * 49.75 / (0.5 - 0.005) - 10
    assert board.view(159.75).running[0].left == pytest.approx(later)
    assert run.loss == 0.5
    board.moved("a", Progress(phase="epoch", epoch=4, epochs=10, metrics={"top1": 0.7}), 160.0)
    board.moved("a", trained(5, 1, loss=0.4), 161.0)
    (run,) = board.view(161.0).running
    assert (run.score, run.loss) == (0.7, 0.4)
    # from the start again, as another draw's training: its pace is not the whole case's
    board.moved("a", trained(0, 1), 170.0)
    assert board.view(170.0).running[0].left is None


def test_thousands_of_runs_are_viewed_at_once(case: Case) -> None:
    board = Board()
    for number in range(4000):
        board.planned(str(number), case, 1.0 + number % 7)
    for number in range(2000):
        board.started(str(number), 0.0)
        board.ended(str(number), 10.0)
    began = time.process_time()
    assert board.view(10.0).left
    assert time.process_time() - began < 0.2


LIVE = re.compile(r"\[[#.]+\] \d+/\d+ runs")


def session(folder: Path, *words: str) -> list[str]:
    (folder / "slow_net.py").write_text(SLOW_NET.replace("0.5", "0.2"))
    return [
        sys.executable, "-m", "pytest", "--backbone", "pixels_coarse", "--backbone",
        "slow_net:make,name=slow", "--seeds", "2", "--executor=process",
        "--executor-option=workers=2", "-p", "no:cacheprovider", *words,
    ]  # fmt: skip


def left_over(screen: Screen) -> list[str]:
    return [text for text in screen.text.splitlines() if LIVE.search(text) or " seed " in text]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "columns", "rows"),
    [((), 100, 30), (("-v", "-p", "no:xdist"), 40, 24), (("-q",), 60, 10)],
)
def test_two_cases_are_shown_under_pytests_lines(
    project: pytest.Pytester, words: Sequence[str], columns: int, rows: int
) -> None:
    both = cursor_stayed = 0
    screen = Screen(columns, rows)
    command = session(project.path, *words)
    for screen in screens(command, columns=columns, rows=rows, folder=project.path):
        lines = screen.lines
        bars = [row for row, text in enumerate(lines) if LIVE.search(text)]
        assert len(bars) <= 1, screen.text
        if bars and lines[bars[0] + 1 : bars[0] + 3].count("") == 0:
            both += all("slow" in text for text in lines[bars[0] + 1 : bars[0] + 3])
            cursor_stayed += screen.row == bars[0] - 1
            assert not any(lines[bars[0] + 3 :]), screen.text
    assert both, screen.text
    assert cursor_stayed, screen.text
    assert not left_over(screen), screen.text
    assert "2 passed" in screen.text
    if "-v" in words:
        joined = "".join(screen.text.splitlines())
        assert "test_finetune[slow-digits] PASSED" in joined.replace("  ", " ")
    else:
        assert re.search(r"^(test_suite\.py )?\.\.( +\[100%\])?$", screen.text, re.M), screen.text


@pytest.mark.slow
def test_what_cases_print_is_not_written_over(project: pytest.Pytester) -> None:
    command = session(project.path, "--capture=no", "--progress=live")
    for screen in screens(command, columns=80, rows=30, folder=project.path):
        assert not LIVE.search(screen.text)
    assert "2 passed" in screen.text


@pytest.mark.slow
def test_a_log_gets_a_line_now_and_then(project: pytest.Pytester) -> None:
    project.makeconftest("import bob.progress.screen as screen\nscreen._LINE_SECONDS = 1.0\n")
    command = session(project.path, "-k", "slow")
    sessions = [
        subprocess.Popen(
            [*command, *words], cwd=project.path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for words in ([], ["--progress=off"])
    ]  # fmt: skip
    shown, quiet = (session.communicate(timeout=240)[0] for session in sessions)
    assert "1 passed" in shown, shown
    told = [text for text in shown.splitlines() if text.startswith("bob: ")]
    name = r"slow-digits finetune seed \d+"
    wanted = re.compile(rf"bob: [012]/2 runs done(, \S+ \w+ left)?(; running: {name}(, {name})?)?")
    lines = [text for text in told if "runs done" in text]
    assert lines, shown
    assert all(wanted.fullmatch(text) for text in lines), lines
    assert any(text.count("slow-digits") == 2 for text in lines), lines
    assert "\x1b[" not in shown
    assert "1 passed" in quiet, quiet
    assert "runs done" not in quiet
