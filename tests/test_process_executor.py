"""A process for each case: what one does costs no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case, Context, Result
from bob.closing import TERMINATED
from bob.cost.needs import SHORTEST_SECONDS, longest_silence, needed
from bob.cost.table import DEFAULT_GPU
from bob.errors import BobError
from bob.executors import Executor, Finished, Limit, Need, Submission, make_executor
from bob.executors.contract import ExecutorContract
from bob.executors.process import ProcessExecutor
from bob.run import run_case
from tests.rude_factories import HARD_ENDS

FACTORIES = "tests.rude_factories"
ROOT = Path(__file__).parents[1]
CONTEXT = Context(accelerator="cpu", workers=0)

pytestmark = pytest.mark.slow


class TestProcess(ExecutorContract):
    def make(self) -> Executor:
        return ProcessExecutor(workers="2")


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor()
    yield made
    made.shutdown(cancel=True)


def result_of(executor: Executor, case: Case, limit: Limit | None = None) -> Result:
    found: list[Result] = []

    def take(event: object) -> None:
        if isinstance(event, Finished):
            found.append(event.result)

    executor.submit(Submission(case.name, case, CONTEXT, limit))
    until = time.monotonic() + 200
    while not found:
        assert time.monotonic() < until
        executor.advance(take, waiting_for=case.name)
    return found[0]


def scores(result: Result) -> dict[str, float]:
    assert result.failure is None, result.failure
    return {name: value for name, value in result.metrics.items() if name != "images_per_second"}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize("how", HARD_ENDS)
def test_an_end_in_c_fails_its_case_and_the_next_goes_on(
    executor: ProcessExecutor, rude_case: Callable[[str], Case], how: str
) -> None:
    ended = result_of(executor, rude_case(f"in_factory,how={how}"))
    assert ended.failure is not None
    assert ended.failure.kind == "exit"
    assert HARD_ENDS[how][1] in ended.failure.message
    assert HARD_ENDS[how][2] in ended.failure.traceback
    assert scores(result_of(executor, rude_case("polite")))


def test_what_nobody_looks_at_spoils_no_other_case(
    executor: ProcessExecutor, rude_case: Callable[[str], Case]
) -> None:
    alone = scores(run_case(rude_case("polite"), CONTEXT))
    spoilt = scores(result_of(executor, rude_case("spoils_the_loss")))
    assert spoilt["test_loss"] == 0.0
    assert scores(result_of(executor, rude_case("polite"))) == alone


def test_a_case_that_hangs_is_stopped_and_says_where_it_stood(
    executor: ProcessExecutor, rude_case: Callable[[str], Case]
) -> None:
    for limit in (Limit(3.0), Limit(3.0, of_silence=True)):
        hung = result_of(executor, rude_case("hangs"), limit)
        assert hung.failure is not None
        assert hung.failure.kind == "timeout"
        assert "for 3 s (--case-timeout)" in hung.failure.message
        assert "in hangs" in hung.failure.traceback
    assert scores(result_of(executor, rude_case("polite"), Limit(300.0)))


def test_a_stopped_process_is_ended_too(
    executor: ProcessExecutor, rude_case: Callable[[str], Case]
) -> None:
    hung = result_of(executor, rude_case("stops_itself"), Limit(3.0))
    assert hung.failure is not None
    assert hung.failure.kind == "timeout"


def test_slow_is_not_hung(executor: ProcessExecutor, rude_case: Callable[[str], Case]) -> None:
    slow = result_of(executor, rude_case("slow_steps"), Limit(2.0, of_silence=True))
    assert scores(slow)
    assert slow.timings["total"] > 3.0


def test_processes_of_a_case_end_with_it(
    executor: ProcessExecutor, rude_case: Callable[[str], Case], tmp_path: Path
) -> None:
    for how in ("leaves_a_child", "leaves_a_child_and_crashes"):
        note = tmp_path / how
        result_of(executor, rude_case(f"{how},note={note}"))
        assert gone(int(note.read_text()))


def test_a_case_that_kills_the_process_that_forks_costs_no_other(
    rude_case: Callable[[str], Case], tmp_path: Path
) -> None:
    executor, found = ProcessExecutor(workers="2"), {}
    note = tmp_path / "runs"
    specs = (f"notes_and_trains_slowly,note={note}", f"kills_the_fork_server,note={note}", "polite")
    try:
        for spec in specs:
            case = rude_case(spec)
            executor.submit(Submission(spec, case, CONTEXT, None))

        def take(event: object) -> None:
            if isinstance(event, Finished):
                found[event.ticket] = event.result

        until = time.monotonic() + 300
        while len(found) < len(specs):
            assert time.monotonic() < until
            executor.advance(take, waiting_for=specs[0])
    finally:
        executor.shutdown(cancel=True)
    assert [found[spec].failure for spec in (specs[0], specs[2])] == [None, None]
    assert scores(found[specs[0]])


def test_a_crash_is_heard_of_although_a_daemon_keeps_its_pipe(
    executor: ProcessExecutor, rude_case: Callable[[str], Case], tmp_path: Path
) -> None:
    note = tmp_path / "daemon"
    try:
        began = time.monotonic()
        ended = result_of(executor, rude_case(f"leaves_a_daemon_and_crashes,note={note}"))
        assert ended.failure is not None
        assert "by SIGSEGV" in ended.failure.message
        assert time.monotonic() - began < 60
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_where_a_case_hangs_is_told_behind_much_output(
    executor: ProcessExecutor, rude_case: Callable[[str], Case]
) -> None:
    hung = result_of(executor, rude_case("prints_much_and_hangs"), Limit(3.0))
    assert hung.failure is not None
    assert "in hangs" in hung.failure.traceback
    assert "a line of many" not in hung.failure.traceback


def test_a_case_that_cannot_be_started_fails_alone(
    executor: ProcessExecutor,
    rude_case: Callable[[str], Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        (tmp_path / "gone").mkdir()
        patch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        failed = result_of(executor, rude_case("polite"))
    assert failed.failure is not None
    assert "no process can be started for it: FileNotFoundError" in failed.failure.message
    assert scores(result_of(executor, rude_case("polite")))


def test_a_cancelled_case_ends_at_once(
    executor: ProcessExecutor, rude_case: Callable[[str], Case], tmp_path: Path
) -> None:
    case = rude_case(f"notes_and_hangs,note={tmp_path / 'pid'}")
    executor.submit(Submission("hung", case, CONTEXT))
    until = time.monotonic() + 100
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < until
        executor.advance(lambda event: None, waiting_for="hung")
    time.sleep(0.1)
    began = time.monotonic()
    executor.cancel(["hung"])
    assert gone(int((tmp_path / "pid").read_text()))
    assert time.monotonic() - began < 30  # it hangs for ever


def test_nothing_is_built_to_learn_what_a_case_needs(rude_case: Callable[[str], Case]) -> None:
    crash = rude_case("in_factory,how=segfault")
    assert needed(crash, DEFAULT_GPU) == Need()
    assert longest_silence(crash, DEFAULT_GPU) == SHORTEST_SECONDS
    entry = crash.backbone.model_copy(update={"source": "timm:resnet50", "arguments": {}})
    need = needed(replace(crash, backbone=entry), DEFAULT_GPU)
    assert need.hours
    assert need.memory_gib


@pytest.mark.parametrize("text", ["0", "-1", "two", ""])
def test_a_wrong_number_of_workers_is_named(text: str) -> None:
    with pytest.raises(BobError, match=r"workers=.*expected a whole number from 1"):
        make_executor("process", {"workers": text})


def test_a_system_without_groups_of_processes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "killpg")
    with pytest.raises(BobError, match="needs a system that forks"):
        make_executor("process")


def session(
    project: pytest.Pytester, *words: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), *words], cwd=project.path, capture_output=True, text=True, timeout=timeout,
        check=False, env=environment(),
    )  # fmt: skip


def hear_signals() -> None:
    """A job in the background ignores SIGINT, and a session heeds that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command() -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--seeds", "1"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def backbones(*specs: str) -> list[str]:
    return [
        word
        for spec in specs
        for word in ("--backbone", f"{FACTORIES}:{spec},name={spec.partition(',')[0]}")
    ]


def test_a_session_goes_on_behind_crash_and_hang(project: pytest.Pytester) -> None:
    names = backbones("c_exit", "hangs", "prints_and_crashes", "polite")
    done = session(project, "--executor", "process", "--case-timeout", "12s", *names)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "3 failed, 1 passed" in done.stdout, done.stdout
    assert "ended with status 0 before the case did" in done.stdout
    assert "hangs-digits finetune seed 0 was stopped: it ran for 12 s" in done.stdout
    assert "a last word before the crash" in done.stdout
    assert "by SIGSEGV" in done.stdout


def test_a_time_needs_an_executor_that_can_stop_a_case(project: pytest.Pytester) -> None:
    done = session(project, "--case-timeout", "20m", *backbones("polite"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "'inline' cannot stop a case. Add --executor=process." in done.stderr
    done = session(project, "--case-timeout", "soon", *backbones("polite"))
    assert "expected auto, off, or a time such as 90s, 20m or 2h" in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_cases_end_with_pytest(
    project: pytest.Pytester, tmp_path: Path, signum: signal.Signals
) -> None:
    note = tmp_path / "pid"
    words = ["--executor", "process", *backbones(f"notes_and_hangs,note={note}")]
    with subprocess.Popen(
        [*command(), *words], cwd=project.path, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=hear_signals,
    ) as running:  # fmt: skip
        until = time.monotonic() + 100
        while not note.exists() or not note.read_text():
            assert time.monotonic() < until
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signum)
        try:
            running.wait(60)
        finally:
            running.kill()
    assert gone(int(note.read_text()))
    if signum is not signal.SIGKILL:
        ended = TERMINATED if signum is signal.SIGTERM else pytest.ExitCode.INTERRUPTED
        assert running.returncode == ended


def test_a_script_that_runs_pytest_is_run_once(project: pytest.Pytester) -> None:
    words = ["-p", "no:cacheprovider", "--seeds=1", "--executor=process", "-kcoarse"]
    script = project.path / "script.py"
    script.write_text(f"import pytest\nprint('script')\nraise SystemExit(pytest.main({words}))\n")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=project.path, capture_output=True, text=True,
        timeout=300, check=False, env=environment(),
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("script\n") == 1


def test_a_temporary_folder_that_holds_no_socket_is_named(
    project: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = session(project, "--executor=process", "-kcoarse")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "--executor=process cannot start processes" in done.stderr
    assert f"in TMPDIR, which is {folder}" in done.stderr
