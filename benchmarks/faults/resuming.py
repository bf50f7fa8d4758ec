"""Smoke sessions that are killed again and again, and taken up again with ``--resume``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.faults.project import Project, ended
from benchmarks.faults.tally import Tally
from tests.store_parts import running_server

SELECTION = (
    "--pyargs", "suites", "-k", "resnet_micro_glyphs and digits or swin_micro_random and digits",
    "-m", "knn or linear_probe or low_shot or finetune", "--seeds=2",
)  # fmt: skip
KILLS_A_PROJECT = 5
_LATEST_SECONDS = 25.0
_WHOLE_SECONDS = 600.0

Run = tuple[str, str, int]
"""Task, name and seed."""


@dataclass
class Campaign:
    """What came of a campaign, besides its tally.

    Attributes:
        kills: How often each kind of process was killed.
        cases: Runs of the undisturbed session that every project has to come to.
        redone: Seconds of work that were lost with a kill and done again.
        worked: Seconds that the runs which count took.
    """

    kills: Counter[str] = field(default_factory=Counter)
    cases: int = 0
    redone: float = 0.0
    worked: float = 0.0


class SmokeProject(Project):
    """A folder in which a selection of the smoke scale runs, with a store of its own.

    Args:
        folder: Where it is made.
        store: Tracking URI; empty for its own SQLite file.
        executor: Which one runs its cases.
    """

    def __init__(self, folder: Path, *, store: str = "", executor: str = "inline") -> None:
        super().__init__(folder, store=store)
        (folder / "pytest.ini").write_text("[pytest]\n")
        self.executor = executor

    def session(self) -> subprocess.Popen[str]:
        """The session, which goes on where earlier ones ended."""
        options = ("--resume", "--save-every=0", f"--executor={self.executor}", "--progress=off")
        return self.start(*SELECTION, *options, seeds=2)

    def scores(self) -> dict[Run, tuple[float, ...]]:
        """Metrics of every result that has a score; of one that is there twice, both."""
        found: dict[Run, tuple[float, ...]] = {}
        for entry in self.ledger.entries():
            result = entry.result
            if result.failure is None:
                run = (result.case.task, result.case.name, result.case.seed)
                values = (result.score or 0.0, result.metrics.get("test_loss", 0.0))
                found[run] = (*found.get(run, ()), *values)
        return found

    def seconds(self) -> float:
        """What the results that have a score took, from loading to the last picture."""
        return sum(
            entry.result.timings.get("total", 0.0)
            for entry in self.ledger.entries()
            if entry.result.failure is None
        )

    def finished_runs(self) -> Counter[Run]:
        """How many MLflow runs of each seed of each case have ended well."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.store or f"sqlite:///{self.database}")
        found: Counter[Run] = Counter()
        sessions = set(self.ledger.sessions())
        for experiment in client.search_experiments(filter_string="name LIKE 'bob/%'"):
            for run in client.search_runs([experiment.experiment_id], max_results=5000):
                tags = run.data.tags
                ours = tags.get("bob.session") in sessions and tags.get("bob.entry")
                if ours and run.info.status == "FINISHED":
                    task = experiment.name.rsplit("/", 1)[-1]
                    name, _, seed = run.info.run_name.rpartition("-s")
                    found[task, name, int(seed)] += 1
        return found


def kills_and_resumes(folder: Path, tries: int, draw: random.Random) -> Tally:
    """``kill -9`` of the session, of the process of a case, and of the server, then ``--resume``.

    Every project is killed several times at random moments before its session may end.
    """
    tally, campaign = Tally("kills and --resume"), Campaign()
    whole = SmokeProject(folder / "undisturbed")
    done = ended(whole.session(), _WHOLE_SECONDS)
    expected = whole.scores()
    campaign.cases = len(expected)
    if done.returncode or not expected:
        tally.bad(f"the undisturbed session ended with {done.returncode}: {done.stdout[-400:]}")
        return tally
    with closing(_Server(folder / "server")) as server:
        number = 0
        while tally.tries < tries:
            kind = ("case", "session", "server")[number % 3]
            executor = "process" if kind == "case" else "inline"
            store = server.uri if kind == "server" else ""
            project = SmokeProject(folder / f"{kind}-{number}", store=store, executor=executor)
            for _ in range(min(KILLS_A_PROJECT, tries - tally.tries)):
                if not _kill_once(project, kind, server, draw, campaign):
                    break
                tally.tries += 1
            _complete(project, expected, tally, campaign, f"{kind} {number}")
            number += 1
    told = ", ".join(f"{count} of the {kind}" for kind, count in sorted(campaign.kills.items()))
    tally.notes.append(f"kills of a running process: {told or 'none'}")
    tally.notes.append(f"{number} projects of {campaign.cases} runs each")
    tally.notes.append(
        f"work done again {campaign.redone:.0f} s, work that counts {campaign.worked:.0f} s"
    )
    return tally


def _kill_once(
    project: SmokeProject,
    kind: str,
    server: _Server,
    draw: random.Random,
    campaign: Campaign,
) -> bool:
    """Start a session and kill something of it; whether it still ran."""
    process = project.session()
    time.sleep(draw.uniform(2.0, _LATEST_SECONDS))
    met = process.poll() is None
    if met:
        if kind == "session":
            campaign.redone += _since_last(project, process)
            os.killpg(process.pid, signal.SIGKILL)
        elif kind == "server":
            server.kill()
        elif victim := _case_process(process):
            campaign.redone += time.time() - victim.create_time()
            victim.kill()
        else:
            met = False
        campaign.kills[kind] += met
    ended(process, _WHOLE_SECONDS)
    if kind == "server":
        server.restart()
    return met


def _since_last(project: SmokeProject, process: subprocess.Popen[str]) -> float:
    """Seconds since the last result was kept, or since the session began."""
    times = [path.stat().st_mtime for path in project.ledger.root.glob("*/*/result.json")]
    return time.time() - max([psutil.Process(process.pid).create_time(), *times])


def _case_process(session: subprocess.Popen[str]) -> psutil.Process | None:
    """The next process that runs a case: a child of the warm one, which the session started."""
    while session.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(session.pid).children(recursive=True):
                if process.ppid() != session.pid:
                    return process
        time.sleep(0.1)
    return None


def _complete(
    project: SmokeProject,
    expected: Mapping[Run, tuple[float, ...]],
    tally: Tally,
    campaign: Campaign,
    what: str,
) -> None:
    """The last session, after which every run has to be there once with the expected values."""
    done = ended(project.session(), _WHOLE_SECONDS)
    if done.returncode == -9:
        tally.hung += 1
    elif done.returncode:
        tally.bad(f"{what}: the last session ended with {done.returncode}: {done.stdout[-400:]}")
    if "not recorded in MLflow" in done.stdout:
        tally.bad(f"{what}: the last session could not record: {done.stdout[-400:]}")
    found, runs = project.scores(), project.finished_runs()
    campaign.worked += project.seconds()
    for run, values in expected.items():
        there = found.get(run, ())
        tally.lost += not there or not runs[run]
        tally.duplicated += len(there) > len(values) or runs[run] > 1
        if there[: len(values)] != values:
            tally.bad(f"{what}: {run} came to {there}, undisturbed {values}")
    if set(found) != set(expected):
        tally.bad(f"{what}: other runs than expected: {sorted(set(found) ^ set(expected))}")


class _Server:
    """A real MLflow server that can be killed and started again on its database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._stack = ExitStack()
        self.uri, self._process = self._stack.enter_context(running_server(folder))

    def kill(self) -> None:
        """``kill -9`` of its process group."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Start it on the same database and port, where it has ended."""
        if self._process.poll() is None:
            return
        self._stack.close()
        port = int(self.uri.rsplit(":", 1)[1])
        _, self._process = self._stack.enter_context(running_server(self._folder, port=port))

    def close(self) -> None:
        """End it."""
        self._stack.close()
