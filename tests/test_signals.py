"""Signals at every moment of a session: its runs are ended as KILLED, and what had finished stays.

Real sessions in processes of their own, recorded in real SQLite stores.
"""

from __future__ import annotations

import configparser
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

from bob.closing import TERMINATED
from bob.ledger import Ledger
from tests.conftest import suite_of
from tests.store_parts import hearing, run_statuses, start_slow_session

pytestmark = pytest.mark.slow

CUT = {"session": "KILLED", "pixels_coarse-digits-s0": "FINISHED", "slow-digits-s0": "KILLED"}

SENDING = """
import os, signal, threading, time

def send(*signals, gap=0.1):
    '''Signals from outside the main thread, a little apart.'''
    def all():
        for signum in signals:
            os.kill(os.getpid(), signum)
            time.sleep(gap)
    for signum in (signal.SIGINT, signal.SIGHUP):  # a shell may have them ignored
        if signal.getsignal(signum) == signal.SIG_IGN:
            raise AssertionError("is not heard")
    threading.Thread(target=all).start()
    time.sleep(0.05)

def before(owner, name, action):
    real = getattr(owner, name)
    def wrapped(*args, **kwargs):
        action()
        return real(*args, **kwargs)
    setattr(owner, name, wrapped)

def once(*signals):
    left = [signals]
    return lambda: send(*left.pop()) if left else None

for signum in (signal.SIGINT, signal.SIGHUP):
    signal.signal(signum, signal.SIG_DFL if signum != signal.SIGINT else signal.default_int_handler)
"""

MOMENTS = {
    "before the first case": """
        from bob.ledger import Ledger
        before(Ledger, "open_session", once(signal.SIGTERM, signal.SIGINT))
    """,
    "while a result is written": """
        from bob.ledger import Ledger
        before(Ledger, "write", once(signal.SIGHUP, signal.SIGTERM, signal.SIGINT))
    """,
    "while the store is written to": """
        from bob.tracking.writer import Writer
        before(Writer, "end", once(signal.SIGINT, signal.SIGTERM))
    """,
    "while the record is closed": """
        from bob.session import BobSession
        before(BobSession, "finish", once(signal.SIGTERM, signal.SIGTERM))
    """,
    "in the summary": """
        def pytest_terminal_summary():
            send(signal.SIGHUP, signal.SIGINT)
            time.sleep(0.3)
    """,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_whenever_it_comes_nothing_is_finished_that_is_not(
    moment: str, project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makeconftest(SENDING + textwrap.dedent(MOMENTS[moment]))
    result = project.runpytest_subprocess("-k", "coarse", *own_store)
    by_term = moment in ("before the first case", "while the record is closed")
    assert result.ret == (TERMINATED if by_term else pytest.ExitCode.INTERRUPTED)
    found = run_statuses(project.path / "mlflow.db")
    assert found.pop("session") == "KILLED"
    kept = len(list(Ledger(project.path / "mlruns" / "ledger").entries()))
    case = {} if moment == "before the first case" else {"pixels_coarse-digits-s0": "FINISHED"}
    assert found == case
    assert kept == len(case)


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGHUP,), (signal.SIGINT, signal.SIGTERM, signal.SIGINT)],
    ids=["hang-up", "three together"],
)
def test_in_training(signals: tuple[signal.Signals, ...], project: pytest.Pytester) -> None:
    database = project.path / "signal.db"
    process = start_slow_session(
        project, database, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=hearing,
    )  # fmt: skip
    for how in signals:
        process.send_signal(how)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert run_statuses(database) == CUT


def test_a_terminal_that_is_closed(project: pytest.Pytester) -> None:
    """The kernel sends SIGHUP, and nothing can be written any more."""
    keeper, terminal = pty.openpty()

    def lead() -> None:
        hearing()
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    database = project.path / "closed.db"
    process = start_slow_session(
        project, database, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=lead,
        env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.close(terminal)
    os.close(keeper)
    assert process.wait(timeout=120) == pytest.ExitCode.INTERRUPTED
    assert run_statuses(database) == CUT


def test_under_tox(project: pytest.Pytester) -> None:
    """A terminal's Ctrl-C meets tox and pytest, and tox sends signals of its own."""
    pytest.importorskip("tox")
    ours = configparser.ConfigParser(interpolation=None)
    ours.read(Path(__file__).parents[1] / "tox.ini")
    waits = {key: text for key, text in ours["testenv:bob"].items() if key.endswith("_timeout")}
    assert waits
    database = project.path / "tox.db"
    runner = project.path / "run.sh"
    runner.write_text('#!/bin/sh\nexec "$@"\n')
    runner.chmod(0o755)

    def as_command(words: list[str]) -> list[str]:
        lines = [
            "[testenv:bob]",
            "skip_install = true",
            "pass_env = *",
            f"allowlist_externals = {runner}",
            f"commands = {runner} {' '.join(words)}",
            *(f"{key} = {text}" for key, text in waits.items()),
        ]
        ini = project.path / "tox.ini"  # which holds pytest's part already
        ini.write_text(f"{ini.read_text()}\n" + "\n".join(lines) + "\n")
        return [sys.executable, "-m", "tox", "-q", "-e", "bob"]

    process = start_slow_session(
        project, database, as_command=as_command, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, preexec_fn=hearing, start_new_session=True,
    )  # fmt: skip
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert "SIGKILL" not in output
    assert run_statuses(database) == CUT, output


def test_a_fixture_that_fails_at_the_end_leaves_nothing_open(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish():
            raise RuntimeError("another plugin's")
        """
    )
    result = project.runpytest_subprocess("-k", "coarse", *own_store)
    assert result.ret != 0
    assert run_statuses(project.path / "mlflow.db") == {
        "session": "FAILED",
        "pixels_coarse-digits-s0": "FINISHED",
    }


def test_a_session_that_a_test_ends_is_not_finished(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makepyfile(
        test_suite=suite_of("finetune") + "    pytest.exit('enough', returncode=0)\n"
    )
    project.runpytest_subprocess(*own_store)
    assert run_statuses(project.path / "mlflow.db") == {
        "session": "KILLED",
        "pixels_coarse-digits-s0": "FINISHED",
    }
