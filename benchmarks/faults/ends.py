"""Sessions that somebody ends: interrupts, kills, and both while a first store is made."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.faults.project import PATIENCE_SECONDS, Project, ended
from benchmarks.faults.tally import Tally
from bob.closing import TERMINATED

INTERRUPTS: dict[str, tuple[signal.Signals, ...]] = {
    "SIGINT": (signal.SIGINT,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGHUP": (signal.SIGHUP,),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
    "SIGINT and SIGTERM": (signal.SIGINT, signal.SIGTERM),
    "SIGINT three times": (signal.SIGINT,) * 3,
}
_BETWEEN_SECONDS = 0.05
_SEEDS = 6
_LATEST_SECONDS = 5.0
"""A session of so many seeds is still running then, on a quiet machine."""


def interrupts(folder: Path, tries: int, draw: random.Random) -> Tally:
    """Signals that ask a session to end, at random moments after its record was opened."""
    tally = Tally("interrupts")
    names = list(INTERRUPTS)
    for number in range(tries):
        name = names[number % len(names)]
        project = Project(folder / f"interrupt-{number}")
        process = _running(project, draw)
        what = f"{name}, try {number}"
        met = process.poll() is None
        for signum in INTERRUPTS[name]:
            if process.poll() is None:
                os.kill(process.pid, signum)
                time.sleep(_BETWEEN_SECONDS)
        done = ended(process, PATIENCE_SECONDS)
        tally.tries += 1
        _look(project, done, tally, what, met=met)
        project.hold_together(tally, what)
    return tally


def kills(folder: Path, tries: int, draw: random.Random) -> Tally:
    """``kill -9`` at random moments; the next session of the same project has to work."""
    tally = Tally("kills")
    for number in range(tries):
        project = Project(folder / f"kill-{number}")
        process = _running(project, draw)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        tally.tries += 1
        what = f"kill, try {number}"
        done = ended(project.start(seeds=1), PATIENCE_SECONDS)
        _next_session(done, tally, what)
        left = project.statuses()["RUNNING"]
        if left:
            tally.bad(f"{what}: {left} runs still RUNNING after the next session")
        project.hold_together(tally, what)
    return tally


def first_stores(folder: Path, tries: int, draw: random.Random) -> Tally:
    """SIGKILL and SIGINT while a project's first store is being made."""
    tally = Tally("first store")
    for number in range(tries):
        project = Project(folder / f"first-{number}")
        process = project.start(seeds=1)
        until = time.monotonic() + PATIENCE_SECONDS
        while not (project.folder / "mlruns").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 3.0))
        signum = (signal.SIGKILL, signal.SIGINT)[number % 2]
        if process.poll() is None:
            os.killpg(process.pid, signum)
        tally.hung += ended(process, PATIENCE_SECONDS).returncode == -9 and number % 2 == 1
        tally.tries += 1
        what = f"{signum.name} while the first store is made, try {number}"
        _next_session(ended(project.start(seeds=1), PATIENCE_SECONDS), tally, what)
        project.hold_together(tally, what)
    return tally


def _running(project: Project, draw: random.Random) -> subprocess.Popen[str]:
    """A session, some moments after its record was opened."""
    process = project.start(seeds=_SEEDS)
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if project.database.exists() and project.session_statuses():
            break
        time.sleep(0.05)
    time.sleep(draw.uniform(0.0, _LATEST_SECONDS))
    return process


def _look(
    project: Project,
    done: subprocess.CompletedProcess[str],
    tally: Tally,
    what: str,
    *,
    met: bool,
) -> None:
    if done.returncode == -9:
        tally.hung += 1
        tally.notes.append(f"{what}: hung: {done.stdout[-300:]}")
        return
    statuses, sessions = project.statuses(), project.session_statuses()
    if statuses["RUNNING"]:
        tally.bad(f"{what}: {statuses['RUNNING']} runs left RUNNING, status {done.returncode}")
    interrupted = done.returncode in (pytest.ExitCode.INTERRUPTED, TERMINATED)
    if interrupted and (done.returncode == TERMINATED) != what.startswith("SIGTERM"):
        tally.bad(f"{what}: exit status {done.returncode}")
    if interrupted != ("KILLED" in sessions):
        tally.bad(f"{what}: exit status {done.returncode}, session's run {sessions}")
    if not met or done.returncode in (0, 1):
        tally.notes.append(f"{what}: came too late, status {done.returncode}")
    elif not interrupted:
        tally.bad(f"{what}: exit status {done.returncode}: {done.stdout[-300:]}")


def _next_session(done: subprocess.CompletedProcess[str], tally: Tally, what: str) -> None:
    if done.returncode == -9:
        tally.hung += 1
    elif done.returncode != 0:
        tally.bad(f"{what}: the next session ended with {done.returncode}: {done.stdout[-400:]}")
