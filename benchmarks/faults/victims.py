"""What a campaign kills, each kind with a project of its own: session, case, server, Ray node."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Protocol

import psutil

from benchmarks.faults.project import ended
from benchmarks.faults.ray_nodes import HOW, Nodes
from benchmarks.faults.smoke_project import SmokeProject
from benchmarks.faults.tally import Tally
from tests.store_parts import running_server

WHOLE_SECONDS = 600.0
_LATEST_SECONDS = 25.0
_RAY_SECONDS = (6.0, 20.0)


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

    def lost_since(self, project: SmokeProject, process: subprocess.Popen[str]) -> None:
        """Count the work since the last result was kept, or since the session began."""
        began = psutil.Process(process.pid).create_time()
        self.redone += time.time() - max(began, project.last_kept())


class Victim(Protocol):
    """One kind of what is killed."""

    def project(self, folder: Path) -> SmokeProject:
        """A new folder whose sessions have such a process."""

    def kill(
        self,
        project: SmokeProject,
        most: int,
        draw: random.Random,
        campaign: Campaign,
        tally: Tally,
    ) -> int:
        """Start sessions and kill, at most so often; how often something running was killed."""

    def close(self) -> None:
        """End what it holds."""


class _InEachSession:
    """Kills once in each session.

    Attributes:
        ends_sessions: Whether the session itself is killed.
    """

    ends_sessions = False

    def project(self, folder: Path) -> SmokeProject:
        """A new folder."""
        return SmokeProject(folder)

    def kill(
        self,
        project: SmokeProject,
        most: int,
        draw: random.Random,
        campaign: Campaign,
        tally: Tally,
    ) -> int:
        """One kill a session, until one ends before it."""
        for count in range(most):
            process = project.session()
            time.sleep(draw.uniform(2.0, _LATEST_SECONDS))
            met = process.poll() is None and self._strike(project, process, campaign)
            ended_badly = ended(process, WHOLE_SECONDS).returncode == -9
            tally.hung += ended_badly and not (met and self.ends_sessions)
            self._after()
            if not met:
                return count
        return most

    def close(self) -> None:
        """Nothing is held."""

    def _strike(
        self, project: SmokeProject, process: subprocess.Popen[str], campaign: Campaign
    ) -> bool:
        raise NotImplementedError

    def _after(self) -> None:
        """Put back what the next session needs."""


class Sessions(_InEachSession):
    """The session itself."""

    ends_sessions = True

    def _strike(
        self, project: SmokeProject, process: subprocess.Popen[str], campaign: Campaign
    ) -> bool:
        campaign.lost_since(project, process)
        os.killpg(process.pid, signal.SIGKILL)
        campaign.kills["session"] += 1
        return True


class CaseProcesses(_InEachSession):
    """The process of a case."""

    def project(self, folder: Path) -> SmokeProject:
        """A new folder whose cases have processes of their own."""
        return SmokeProject(folder, options=("--executor=process",))

    def _strike(
        self, project: SmokeProject, process: subprocess.Popen[str], campaign: Campaign
    ) -> bool:
        victim = _case_process(process)
        if victim is None:
            return False
        campaign.redone += time.time() - victim.create_time()
        victim.kill()
        campaign.kills["case"] += 1
        return True


class Servers(_InEachSession):
    """A real MLflow server, which is started again on its database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._stack = ExitStack()
        self._uri, self._process = self._stack.enter_context(running_server(folder))

    def project(self, folder: Path) -> SmokeProject:
        """A new folder that records to the server."""
        return SmokeProject(folder, store=self._uri)

    def close(self) -> None:
        """End it."""
        self._stack.close()

    def _strike(
        self, project: SmokeProject, process: subprocess.Popen[str], campaign: Campaign
    ) -> bool:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        campaign.kills["server"] += 1
        return True

    def _after(self) -> None:
        if self._process.poll() is None:
            return
        self._stack.close()
        port = int(self._uri.rsplit(":", 1)[1])
        _, self._process = self._stack.enter_context(running_server(self._folder, port=port))


class RayNodes:
    """A node of a Ray cluster, its raylet, a worker on it, or the session that controls it.

    A session that loses nodes goes on, so that several are killed in one.
    """

    def __init__(self) -> None:
        self._nodes = Nodes()
        self._how = cycle((*HOW, "controller"))

    def project(self, folder: Path) -> SmokeProject:
        """A new folder whose sessions join the cluster."""
        address = f"--ray-address={self._nodes.address}"
        return SmokeProject(folder, options=("--executor=ray", address))

    def kill(
        self,
        project: SmokeProject,
        most: int,
        draw: random.Random,
        campaign: Campaign,
        tally: Tally,
    ) -> int:
        """Kills at random moments, until the session has ended by itself."""
        count, process = 0, project.session()
        while count < most:
            time.sleep(draw.uniform(*_RAY_SECONDS))
            if process.poll() is not None:
                break
            how = next(self._how)
            if how == "controller":
                campaign.lost_since(project, process)
                os.killpg(process.pid, signal.SIGKILL)
                ended(process, WHOLE_SECONDS)
                process = project.session()
            elif not self._nodes.kill(how, draw):
                continue
            count += 1
            campaign.kills[f"ray {how}"] += 1
        done = ended(process, WHOLE_SECONDS)
        given_up = "its node was lost" in done.stdout
        if done.returncode == -9:
            tally.hung += 1
        elif done.returncode and not (done.returncode == 1 and given_up):
            tally.bad(f"a Ray session ended with {done.returncode}: {done.stdout[-800:]}")
        if "Traceback" in done.stdout:
            place = done.stdout.index("Traceback")
            tally.bad(f"a Ray session: a traceback: {done.stdout[place : place + 800]}")
        return count

    def close(self) -> None:
        """End the cluster."""
        self._nodes.close()


def _case_process(session: subprocess.Popen[str]) -> psutil.Process | None:
    """The next process that runs a case: a child of the warm one, which the session started."""
    while session.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(session.pid).children(recursive=True):
                if process.ppid() != session.pid:
                    return process
        time.sleep(0.1)
    return None
