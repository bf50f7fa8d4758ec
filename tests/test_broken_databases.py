"""Databases that are locked or deleted, and disks that are full, while a session records."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bob.tracking import Destination
from bob.tracking.opening import words_of
from bob.tracking.patience import allowed_seconds
from tests.replay_parts import Outcome, Replay, Undisturbed, same
from tests.store_parts import EmptyStore, ledger_of

pytestmark = pytest.mark.slow


def test_a_database_that_another_process_locks(
    local_store: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    replay = Replay(local_store, outcome, seconds=2).start()
    before = set(threading.enumerate())
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sqlite3, sys, time\n"
            "held = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "held.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(60)",
            local_store.uri.removeprefix("sqlite:///"),
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    replay.results().judge().finish()
    assert replay.waited < 20  # the database is held for 60
    assert replay.tracker.problems
    holder.kill()
    holder.wait()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)  # what was given up may still be carried out
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


def test_the_databases_own_words_are_told() -> None:
    """Behind them SQLAlchemy puts its query, and before them MLflow its own words."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    query = text(f"SELECT * FROM nowhere WHERE name = '{'long' * 100}'")
    with (
        create_engine("sqlite://").connect() as connection,
        pytest.raises(OperationalError) as caught,
    ):
        connection.execute(query)
    error = MlflowException(f"(raised as a result of Query-invoked autoflush) {caught.value}")
    assert words_of(error) == "MlflowException: no such table: nowhere"
    assert words_of(ValueError("no answer")) == "ValueError: no answer"


def test_a_database_that_is_deleted_meanwhile(
    local_store: Destination,
    outcome: Outcome,
    undisturbed: Undisturbed,
    empty_store: EmptyStore,
    tmp_path: Path,
) -> None:
    """MLflow goes on with the open file, which nobody else can see."""
    replay = Replay(local_store, outcome).start()
    Path(local_store.uri.removeprefix("sqlite:///")).unlink()
    replay.results().judge().finish()
    assert replay.tracker.problems[-1] == "from there on nothing more was sent"
    replay.tracker.store = replace(local_store, uri=empty_store(tmp_path / "new.db"))
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


def test_a_full_disk_under_the_artifacts(
    local_store: Destination, outcome: Outcome, undisturbed: Undisturbed
) -> None:
    assert local_store.artifacts is not None
    local_store.artifacts.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(local_store.artifacts)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only an administrator can make a small disk")
    try:
        replay = Replay(local_store, outcome).whole()
        assert any("No space left" in remark for remark in replay.tracker.writer.remarks)
    finally:
        subprocess.run(["umount", str(local_store.artifacts)], check=True)
    replay.sync()
    assert same(replay.facts(), undisturbed[2])


FILLED = """
    import os
    import pytest

    def fill(folder):
        with open(folder / "ballast", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    @pytest.fixture(autouse=True)
    def full(request):
        fill(request.config.rootpath / "mlruns")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(session):
        if os.environ.get("ROOM_LATER"):
            (session.config.rootpath / "mlruns" / "ballast").unlink()
    """


@pytest.mark.parametrize("room", ["never", "later"])
def test_a_full_disk_under_ledger_and_store(
    room: str, project: pytest.Pytester, empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can keep the result: the session has failed although its test has passed."""
    folder = project.path / "mlruns"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only an administrator can make a small disk")
    try:
        uri = empty_store(folder / "mlflow.db")
        project.makeconftest(FILLED)
        if room == "later":
            monkeypatch.setenv("ROOM_LATER", "1")
        result = project.runpytest_subprocess("-k", "coarse", "--tracking-uri", uri)
        result.assert_outcomes(passed=1)
        kept = list(ledger_of(project).entries())
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    output = result.stdout.str()
    if room == "later":
        assert len(kept) == 1
        assert "not kept on disk" not in output
        assert result.ret == pytest.ExitCode.OK
        return
    assert not kept
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*not kept on disk*",
            "The result of pixels_coarse-digits could not be kept *No space left on device*"
            "Free space there*MLflow does not have it either: it is lost, and is to be run again.",
            "*This session has failed for it*",
        ]
    )


def test_the_users_environment_is_left_as_it_is(
    local_store: Destination, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    assert allowed_seconds() == 30
    replay = Replay(local_store, outcome, seeds=1).start().results()
    seen: dict[str, str] = {}
    replay.tracker.writer.patience.ask(lambda: seen.update(os.environ))
    assert dict(os.environ) == before
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "50")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    replay.tracker.writer.patience.ask(lambda: seen.update(os.environ))
    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "50"
    assert allowed_seconds() == 100
