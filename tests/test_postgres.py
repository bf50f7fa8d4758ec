"""A session against an MLflow server on PostgreSQL whose server is killed while a case runs.

The test starts a PostgreSQL of its own; ``BOB_TEST_POSTGRES=1`` asks for it (``docs/cluster.md``).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from bob.tracking import resolve_store
from bob.tracking.writer import Writer
from tests.store_parts import (
    SLOW_NET,
    EmptyStore,
    facts_of,
    free_port,
    ledger_of,
    running_server,
    runs_of,
)

pytestmark = pytest.mark.slow

ASKED = "BOB_TEST_POSTGRES"


def programs() -> Path | None:
    """Where Debian keeps the newest PostgreSQL's programs, or wherever the path has them."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: float(path.parts[-3]),
    )
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


def why_not() -> str:
    """What is missing, and its remedy; empty where the test can run."""
    if not os.environ.get(ASKED):
        return f"starts a PostgreSQL server: set {ASKED}=1 to run it"
    if programs() is None:
        return "needs PostgreSQL: apt-get install postgresql"
    if find_spec("psycopg2") is None:
        return "needs psycopg2: pip install psycopg2-binary"
    if os.geteuid() == 0 and (not shutil.which("runuser") or not _has_user("postgres")):
        return (
            "PostgreSQL does not run as root: apt-get install postgresql util-linux, which bring "
            "the user postgres and runuser, or run this test as another user"
        )
    return ""


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a database on a PostgreSQL that ends with the test."""
    if reason := why_not():
        pytest.skip(reason)
    found = programs()
    assert found is not None
    # not under pytest's folder, which other users cannot enter
    folder = Path(tempfile.mkdtemp(prefix="bob-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def call(*words: str) -> None:
        log = folder.with_suffix(".log")
        with log.open("ab") as stream:
            done = subprocess.run(
                [*as_user, *words], cwd="/", stdout=stream, stderr=stream, timeout=120, check=False
            )
        assert done.returncode == 0, log.read_text()

    data, port = str(folder / "data"), free_port()
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = str(found / "pg_ctl")
    try:
        call(str(found / "initdb"), "-D", data, "-U", "bob", "--auth=trust", "--encoding=UTF8")
        call(control, "-D", data, "-o", settings, "-l", f"{folder}/server.log", "-w", "start")
        try:
            yield f"postgresql+psycopg2://bob@127.0.0.1:{port}/postgres"
        finally:
            call(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


def slow_session(project: pytest.Pytester, uri: str) -> subprocess.Popen[str]:
    """A session of two cases, one of which has ended and the other, a slow one, trains."""
    project.makepyfile(slow_net=SLOW_NET)
    words = [
        sys.executable, "-m", "pytest", "--backbone", "pixels_coarse", "--backbone",
        "slow_net:make,name=slow", "--tracking-uri", uri, "--seeds", "1",
    ]  # fmt: skip
    process = subprocess.Popen(
        words, cwd=project.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        statuses = {run.data.tags["bob.backbone"]: run.info.status for run in runs_of(uri)}
        if statuses == {"pixels_coarse": "FINISHED", "slow": "RUNNING"}:
            return process
        time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate()[0])


def sync(project: pytest.Pytester, uri: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bob.cli", "sync", "--tracking-uri", uri],
        cwd=project.path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_server_killed_in_mid_run_has_every_result_once_after_a_sync(
    postgres: str, project: pytest.Pytester, tmp_path: Path, empty_store: EmptyStore
) -> None:
    with running_server(tmp_path, backend=postgres) as (uri, server):
        session = slow_session(project, uri)
        os.killpg(server.pid, signal.SIGKILL)
        output, _ = session.communicate(timeout=400)
    assert "2 passed" in output, output
    assert "not recorded in MLflow" in output, output
    ledger = ledger_of(project)
    entries = [entry for name in ledger.sessions() for entry in ledger.entries(name)]
    assert sorted(entry.result.case.backbone.key for entry in entries) == ["pixels_coarse", "slow"]
    assert all(entry.result.failure is None for entry in entries)

    whole = empty_store(project.path / "whole.db")
    sync(project, whole)
    with running_server(tmp_path, backend=postgres) as (uri, _):
        assert {run.data.tags["bob.backbone"] for run in runs_of(uri)} == {"pixels_coarse", "slow"}
        told = sync(project, uri)
        assert "1 of which it had a part; 1 were there already" in told, told
        runs = {run.data.tags["bob.backbone"]: run for run in runs_of(uri)}
        assert len(runs) == len(runs_of(uri)) == 2
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        for entry in entries:
            values = runs[entry.result.case.backbone.key].data.metrics
            assert values["top1"] == pytest.approx(entry.result.metrics["top1"])
        assert "0 results and 0 verdicts" in sync(project, uri)
        # what it says of every run is what a store says that was never disturbed
        assert facts_of(writer_of(project, uri)) == facts_of(writer_of(project, whole))


def writer_of(project: pytest.Pytester, uri: str) -> Writer:
    return Writer(resolve_store(project.path, uri))
