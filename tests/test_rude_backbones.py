"""Backbones that change what every case shares, or that end the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bob import exits
from bob.case import Context, Result
from bob.catalog import Catalog
from bob.plan import Plan, Selection
from bob.run import run_case
from bob.run.failures import LONGEST_MESSAGE, LONGEST_TRACEBACK, shortened
from bob.run.global_state import kept, put_back, snapshot, states
from bob.run.streams import kept_open
from tests import rude_factories

FACTORIES = "tests.rude_factories"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(catalog: Catalog) -> Callable[..., Result]:
    """Runs a factory's backbone on the tiny scale."""

    def one_run(spec: str, *, seed: int = 0, loader: str = "") -> Result:
        source = spec if ":" in spec else f"{FACTORIES}:{spec}"
        plan = Plan(catalog, Selection(scale="tiny", backbones=(source,)))
        case = plan.cases("finetune")[0].with_seed(seed)
        if loader:
            entry = case.dataset.model_copy(update={"loader": loader})
            case = replace(case, dataset=entry)
        return run_case(case, Context(accelerator="cpu", workers=0))

    return one_run


@pytest.fixture(scope="module")
def _imported(catalog: Catalog) -> None:
    """Import first what a case imports, which changes a thing or two."""
    case = Plan(catalog, Selection(scale="tiny")).cases("finetune")[0]
    assert run_case(case, Context(accelerator="cpu", workers=0)).failure is None


@pytest.fixture(autouse=True)
def _no_state_left(_imported: None) -> Iterator[None]:
    """The test process itself is as it was; a test that fails does not spoil the next."""
    before = snapshot()
    yield
    left = [text for text in put_back(before) if "PYTEST_CURRENT_TEST" not in text]
    assert not left


def before_loaders(signum: int, frame: object) -> None:
    """A handler."""


def scores(result: Result) -> Mapping[str, float]:
    assert result.failure is None, result.failure
    return {name: value for name, value in result.metrics.items() if name != "images_per_second"}


@pytest.mark.parametrize("how", rude_factories.STATES)
def test_what_code_changes_is_put_back_and_told(how: str) -> None:
    deed, told = rude_factories.STATES[how]
    remarks: list[str] = []
    with kept_open("backbone x", remarks), kept("backbone x", remarks):
        deed()
    (remark,) = [text for text in remarks if text.startswith(f"backbone x {told}")] or [remarks]
    assert isinstance(remark, str), f"not told: {told}; but {remark}"
    assert "secret" not in remark
    assert len(remarks) <= (5 if how in ("matmul", "precision") else 2), remarks
    assert all(text.endswith(("it was put back", "it was refused")) for text in remarks), remarks


def test_nothing_is_told_where_nothing_is_changed() -> None:
    remarks: list[str] = []
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with kept_open("x", remarks), kept("x", remarks):
            torch.manual_seed(4)
            signal.signal(signal.SIGCHLD, before_loaders)  # as torch does once for its loaders
        assert signal.getsignal(signal.SIGCHLD) is before_loaders
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not remarks
    assert len({state.name for state in states()}) == len(states())


@pytest.mark.slow
def test_a_normal_case_is_the_same_behind_rude_ones(run: Callable[..., Result]) -> None:
    alone = run("polite")
    assert not alone.remarks
    for how in ("dtype", "grad", "softmax", "seed", "inference", "device"):
        rude = run(f"in_factory,how={how}")
        assert any(rude_factories.STATES[how][1] in text for text in rude.remarks), rude
        assert scores(run("polite")) == scores(alone), how
    for how in ("dtype", "threads", "linear", "forward_hook"):
        rude = run(f"in_forward,how={how}")
        told = rude_factories.STATES[how][1].partition(" at 1 ")[0]  # a hook for each step
        assert any(told in text for text in rude.remarks), rude
        assert scores(run("polite")) == scores(alone), how
    assert scores(run("seeds_at_random")) != {}
    assert scores(run("polite")) == scores(alone)


def test_what_an_import_sets_holds_in_every_case(run: Callable[..., Result]) -> None:
    first, second = run("tests.rude_on_import:make"), run("tests.rude_on_import:make")
    assert scores(first) == scores(second)
    assert first.remarks == second.remarks
    for told in ("torch.use_deterministic_algorithms at True", "os.environ changed (RUDE_IMPORT)",
                 "sys.path changed (/rude/import)"):  # fmt: skip
        assert f"backbone tests.rude_on_import:make left {told}; it was put back" in first.remarks
    assert "RUDE_IMPORT" not in os.environ


def test_a_loader_that_changes_the_process_is_named(run: Callable[..., Result]) -> None:
    alone, rude = run("polite"), run("polite", loader="tests.rude_on_import:load_rudely")
    assert scores(rude) == scores(alone)
    assert "dataset digits left torch's default dtype at float64; it was put back" in rude.remarks
    assert any(text.startswith("dataset digits left the working dir") for text in rude.remarks)


@pytest.mark.parametrize("how", rude_factories.ENDS)
def test_code_that_ends_the_process_ends_its_case(run: Callable[..., Result], how: str) -> None:
    finished = exits.install()
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    from bob import interrupts

    restore = interrupts.install()
    try:
        failure = run(f"in_factory,how={how}").failure
    finally:
        restore()
        signal.signal(signal.SIGINT, former)
        finished()
    assert failure is not None
    assert rude_factories.ENDS[how][1] in failure.message


def test_processes_of_a_backbone_may_end(run: Callable[..., Result]) -> None:
    assert run("with_workers").failure is None


def test_everything_is_as_it_was_when_no_case_runs(run: Callable[..., Result]) -> None:
    before = (os._exit, os.kill, signal.raise_signal)
    run("polite")
    assert (os._exit, os.kill, signal.raise_signal) == before


@pytest.mark.parametrize("factory", ["loud", "loud_forward"])
def test_a_long_message_is_cut(run: Callable[..., Result], factory: str) -> None:
    failure = run(factory).failure
    assert failure is not None
    assert len(failure.message) < LONGEST_MESSAGE + 100
    assert len(failure.traceback) < LONGEST_TRACEBACK + 100
    assert "begin xxx" in failure.message
    if factory == "loud_forward":
        assert failure.message.endswith("xxx end")
        assert "characters left out" in failure.message
    assert failure.traceback.rstrip().endswith((" end", "xxx", "..."))


def test_a_message_that_cannot_be_shown_is_told(run: Callable[..., Result]) -> None:
    failure = run("unprintable").failure
    assert failure is not None
    assert "_Unprintable" in failure.message


def test_head_and_tail_are_kept() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("a" * 600 + "b" * 600, 10) == (
        "aaaaa\n[... 1,190 characters left out ...]\nbbbbb"
    )


def session(project: pytest.Pytester, *specs: str) -> subprocess.CompletedProcess[str]:
    words = [word for spec in specs for word in ("--backbone", f"{FACTORIES}:{spec},name={spec}")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *words, "--seeds", "1"],
        cwd=project.path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip


@pytest.mark.slow
def test_a_session_goes_on_behind_an_exit(project: pytest.Pytester) -> None:
    words = []
    for how in ("sys_exit", "os_exit", "kill", "close_stdout"):
        words += ["--backbone", f"{FACTORIES}:in_factory,how={how},name={how}"]
    words += ["--backbone", f"{FACTORIES}:polite,name=polite"]
    words += ["--backbone", f"{FACTORIES}:forks,name=forks"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, "--seeds", "1"],
        cwd=project.path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "3 failed, 3 passed" in done.stdout, done.stdout
    assert "SystemExit(0) was raised in <lambda> (rude_factories.py" in done.stdout
    assert "os._exit(0) was called in" in done.stdout
    assert "close_stdout called sys.stdout.close(); it was refused" in done.stdout
    assert "forks-digits finetune seed 0: its code forked a process that came back" in done.stderr


@pytest.mark.slow
def test_an_exit_of_c_is_told_and_not_a_success(project: pytest.Pytester) -> None:
    done = session(project, "c_exit", "polite")
    assert done.returncode == exits.UNFINISHED, done.stdout + done.stderr
    assert "C's exit() ended the process while c_exit-digits finetune seed 0 ran" in done.stderr


@pytest.mark.slow
def test_a_polite_session_has_no_remark(project: pytest.Pytester) -> None:
    done = session(project, "polite")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left " not in done.stdout, done.stdout
    assert not done.stderr.strip()
