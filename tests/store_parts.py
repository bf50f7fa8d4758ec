"""What a store and a ledger hold, a real server, and a session that is met while it trains."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bob.ledger import Ledger
from bob.tracking.writer import Writer

WRITER = ("bob.pid", "bob.pid_started")  # bob sync is another process than the session was
TIMES = re.compile(r"^(seconds_|peak_memory|system/|images_per_second)")
EmptyStore = Callable[[Path], str]


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


def facts_of(writer: Writer, session: str = "") -> dict[str, dict[str, Any]]:
    """Everything a store says of every run, less ids and times, by what the run is of.

    Args:
        writer: The store.
        session: Only this one's runs, and without its name; of all by default.
    """
    client = writer.client
    found: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    runs = []
    for experiment in client.search_experiments(filter_string="name LIKE 'bob/%'"):
        query = f"tags.`bob.session` = '{session}'" if session else ""
        for run in writer.search([experiment.experiment_id], query):
            names[run.info.run_id] = f"{experiment.name} {run.info.run_name}"
            runs.append((experiment.name, run))
    for experiment_name, run in runs:
        key = f"{experiment_name} {run.info.run_name}"
        assert key not in found, f"{key} is there twice"
        tags = dict(run.data.tags)
        parent = tags.pop("mlflow.parentRunId", None)
        points = {
            name: [
                (point.step, str(point.value))
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
            if not TIMES.match(name)
        }
        found[key] = {
            "status": run.info.status,
            "tags": {k: v for k, v in tags.items() if "artifact" not in k and k not in WRITER},
            "params": dict(run.data.params),
            "metrics": points,
            "timed": sorted(name for name in run.data.metrics if TIMES.match(name)),
            "parent": names.get(parent) if parent else None,
            "files": sorted(item.path for item in client.list_artifacts(run.info.run_id)),
            "data": [str(given.dataset.to_dictionary()) for given in run.inputs.dataset_inputs],
        }
    if not session:
        return found
    anonymous: dict[str, dict[str, Any]] = eval(repr(found).replace(session, "S"))
    return anonymous


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(
    folder: Path, *, port: int = 0, backend: str = ""
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server whose artifacts are in a folder, and its database unless another is named.

    Args:
        folder: One of an earlier server goes on.
        port: A free one unless given.
        backend: Tracking URI of its database.
    """
    port = port or free_port()
    log = (folder / "server.log").open("ab")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--backend-store-uri", backend or f"sqlite:///{folder}/server.db",
            "--artifacts-destination", str(folder / "artifacts"), "--workers", "1",
        ],
        stdout=log, stderr=log, start_new_session=True,
        # its job runners take longer to start than all the rest
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.5)
        yield uri, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


SLOW_NET = """
import time
from pathlib import Path
from torch import nn

class Slow(nn.Sequential):
    def forward(self, images):
        if self.training:
            Path("trains").touch()
        time.sleep(0.5)
        return super().forward(images)

def make():
    return Slow(nn.AdaptiveAvgPool2d(4), nn.Flatten())
"""


def start_slow_session(
    project: pytest.Pytester,
    database: Path,
    *,
    as_command: Callable[[list[str]], list[str]] = lambda words: words,
    further: Sequence[str] = (),
    **options: Any,
) -> subprocess.Popen[Any]:
    """A session in a process of its own: one case is finished, and a slow one trains.

    It is slow enough to be met while it trains, however busy the machine.

    Args:
        project: Where it runs.
        database: The SQLite file of its store.
        as_command: What runs its command.
        further: More words of its command.
        options: What else ``subprocess.Popen`` takes.
    """
    project.makepyfile(slow_net=SLOW_NET)
    words = [
        sys.executable, "-m", "pytest", "--backbone", "pixels_coarse", "--backbone",
        "slow_net:make,name=slow", "--tracking-uri", f"sqlite:///{database}", "--seeds", "1",
        *further,
    ]  # fmt: skip
    process = subprocess.Popen(as_command(words), cwd=project.path, **options)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(sqlite3.OperationalError):
            if statuses(database).get("slow") == "RUNNING":
                break
        time.sleep(0.1)
    return process


def statuses(database: Path) -> dict[str, str]:
    """The status of each backbone's run.

    It is read past MLflow, which would create a schema that is still being created.
    """
    query = "select value, status from runs join tags using (run_uuid) where key = ?"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return dict(connection.execute(query, ("bob.backbone",)).fetchall())


def run_statuses(database: Path) -> dict[str, str]:
    """The status of every run of a store of one session, by name; the session's is ``session``."""
    query = (
        "select runs.name, status from runs join experiments using (experiment_id) "
        "where experiments.name like 'bob/%' and runs.lifecycle_stage = 'active'"
    )
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    return {"session" if name.startswith("session-") else name: status for name, status in rows}


def hearing() -> None:
    """Hear every signal in a new process; jobs in a shell's background inherit ignored ones."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
