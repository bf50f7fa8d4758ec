"""Two sessions that resume at the same moment, on one store: each result counts once."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.ledger import Ledger
from bob.ledger.records import Recorded
from tests.replay_parts import Outcome
from tests.resume_parts import WORDS, entries_in, levels_in, results_of, start
from tests.store_parts import EmptyStore, running_server


@pytest.fixture(params=["SQLite", pytest.param("server", marks=pytest.mark.slow)])
def store(
    request: pytest.FixtureRequest, project: pytest.Pytester, empty_store: EmptyStore
) -> Iterator[str]:
    """A file, or a real server."""
    if request.param == "SQLite":
        yield empty_store(project.path / "own.db")
        return
    place = project.path / "server"
    place.mkdir()
    empty_store(place / "server.db")
    with running_server(place) as (uri, _):
        yield uri


@pytest.fixture
def ledger(project: pytest.Pytester) -> Ledger:
    return Ledger(project.path / "mlruns" / "ledger")


def resumed_at_once(project: pytest.Pytester, store: str) -> list[str]:
    """What two sessions print that start at the same moment."""
    processes = [start(project, store, "--resume") for _ in range(2)]
    told = [process.communicate(timeout=300)[0] for process in processes]
    for process, text in zip(processes, told, strict=True):
        assert process.returncode == 0, text
        assert "Traceback" not in text
        assert "8 of 8 results are reused" in text, text
        assert "not recorded in MLflow" not in text, text
        assert "could not be read" not in text, text
    return told


def test_what_a_store_lacks_is_sent_once(
    project: pytest.Pytester, store: str, ledger: Ledger, empty_store: EmptyStore
) -> None:
    words = ("--tracking-uri", empty_store(project.path / "first.db"))
    project.runpytest(*WORDS, *words).assert_outcomes(passed=2, warnings=2)
    before = results_of(ledger)
    resumed_at_once(project, store)
    assert results_of(ledger) == before
    assert entries_in(project, store) == before
    assert levels_in(project, store) == Counter(case=2, seed=8, session=2)


def test_what_a_store_has_is_brought_once(
    project: pytest.Pytester, store: str, ledger: Ledger
) -> None:
    project.runpytest(*WORDS, "--tracking-uri", store).assert_outcomes(passed=2, warnings=2)
    before = results_of(ledger)
    shutil.rmtree(ledger.root)
    resumed_at_once(project, store)
    assert results_of(ledger) == before
    assert not ledger.damaged
    assert not list(ledger.root.glob("*/.writing-*"))
    assert entries_in(project, store) == before
    assert levels_in(project, store) == Counter(case=2, seed=8, session=3)


def _write_often(root: Path, recorded: Recorded, times: int) -> None:
    for _ in range(times):
        Ledger(root).write(recorded)


def test_an_entry_that_several_write_stays_whole(outcome: Outcome, tmp_path: Path) -> None:
    recorded = outcome.recorded[0]
    Ledger(tmp_path).open_session(recorded.session, recorded.facts)
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_often, args=(tmp_path, recorded, 60)) for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert results_of(Ledger(tmp_path)) == Counter([f"{recorded.session}/{recorded.entry}"])
    assert [path.name for path in (tmp_path / recorded.session).iterdir() if path.is_dir()] == [
        recorded.entry
    ]
