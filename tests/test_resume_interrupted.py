"""``--resume`` whose store dies, or that is interrupted, while it sends or brings results."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bob.ledger import Ledger
from tests.resume_parts import WORDS, entries_in, levels_in, results_of, start
from tests.store_parts import EmptyStore, running_server

pytestmark = pytest.mark.slow

_FINISHED = (
    "select count(*) from runs join tags using (run_uuid) "
    "where key = 'bob.entry' and status = 'FINISHED' and lifecycle_stage = 'active'"
)
_RUNS = 8


def finished(database: Path) -> int:
    """How many results a store has, read past MLflow."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
    ):
        return int(connection.execute(_FINISHED).fetchone()[0])
    return 0


def brought(ledger: Ledger) -> int:
    return len(list(ledger.root.glob("*/finetune-*/result.json")))


def meets(process: subprocess.Popen[str], count: Callable[[], int]) -> None:
    """Wait until some of the results are where they go to, and not all."""
    until = time.monotonic() + 120
    while not count():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)
    assert count() < _RUNS


@pytest.fixture
def ledger(project: pytest.Pytester, empty_store: EmptyStore) -> Ledger:
    """Eight results, recorded in a store of their own."""
    words = ("--tracking-uri", empty_store(project.path / "first.db"))
    project.runpytest(*WORDS, *words).assert_outcomes(passed=2, warnings=2)
    return Ledger(project.path / "mlruns" / "ledger")


def test_a_server_that_dies_while_results_are_sent(
    project: pytest.Pytester, ledger: Ledger, empty_store: EmptyStore
) -> None:
    before, place = results_of(ledger), project.path / "server"
    place.mkdir()
    empty_store(place / "server.db")
    with running_server(place) as (uri, server):
        process = start(project, uri, "--resume")
        meets(process, lambda: finished(place / "server.db"))
        os.killpg(server.pid, signal.SIGKILL)
        began = time.monotonic()
        told = process.communicate(timeout=120)[0]
    assert time.monotonic() - began < 60
    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert "8 of 8 results are reused" in told
    assert "not recorded in MLflow" in told
    assert "bob sync" in told
    assert results_of(ledger) == before
    with running_server(place, port=int(uri.rsplit(":", 1)[1])) as (uri, _):
        again = project.runpytest(*WORDS, "--tracking-uri", uri, "--resume")
        assert again.ret == pytest.ExitCode.OK
        assert "not recorded in MLflow" not in again.stdout.str()
        assert results_of(ledger) == entries_in(project, uri) == before
        assert levels_in(project, uri)["case"] == 2


def test_an_interrupt_while_results_are_sent(
    project: pytest.Pytester, ledger: Ledger, empty_store: EmptyStore
) -> None:
    before, database = results_of(ledger), project.path / "own.db"
    store = empty_store(database)
    process = start(project, store, "--resume")
    meets(process, lambda: finished(database))
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 2, told
    assert "Traceback" not in told
    assert results_of(ledger) == before
    assert completed(project, store) == before
    assert levels_in(project, store)["case"] == 2


def test_an_interrupt_while_results_are_brought(project: pytest.Pytester, ledger: Ledger) -> None:
    before, store = results_of(ledger), f"sqlite:///{project.path / 'first.db'}"
    shutil.rmtree(ledger.root)
    process = start(project, store, "--resume")
    meets(process, lambda: brought(ledger))
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 2, told
    assert "Traceback" not in told
    assert set(results_of(ledger)) < set(before)
    assert not ledger.damaged
    assert completed(project, store) == results_of(ledger) == before


def completed(project: pytest.Pytester, store: str) -> Counter[str]:
    """Runs of each result after another session."""
    again = project.runpytest(*WORDS, "--tracking-uri", store, "--resume")
    assert again.ret == pytest.ExitCode.OK
    again.stdout.fnmatch_lines(["8 of 8 results are reused."])
    return entries_in(project, store)
