"""Servers that die or hang, and disks that are full, in the middle of a session."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from benchmarks.faults.project import PATIENCE_SECONDS, Project, ended
from benchmarks.faults.small_disk import NOT_MADE, fill, small_disk
from benchmarks.faults.tally import Tally
from tests.store_parts import running_server

_LONGER_SECONDS = 45.0
"""What a dead server may cost: 30 s of failed calls, and what it takes to end."""


def servers(folder: Path, tries: int, draw: random.Random) -> Tally:
    """A real server is stopped (it hangs) at a random moment of a session, and goes on later."""
    tally = Tally("hanging server")
    place = folder / "server"
    place.mkdir()
    with running_server(place) as (uri, server):
        began = time.monotonic()
        ended(Project(folder / "undisturbed", store=uri).start(), PATIENCE_SECONDS)
        undisturbed = time.monotonic() - began
        for number in range(tries):
            project = Project(folder / f"session-{number}", store=uri)
            began = time.monotonic()
            process = project.start()
            time.sleep(draw.uniform(0.3, 1.0) * undisturbed)
            os.killpg(server.pid, signal.SIGSTOP)
            try:
                done = ended(process, undisturbed + PATIENCE_SECONDS)
            finally:
                os.killpg(server.pid, signal.SIGCONT)
            took = time.monotonic() - began
            tally.tries += 1
            what = f"try {number}"
            if done.returncode == -9 or took > 2 * undisturbed + _LONGER_SECONDS:
                tally.hung += 1
                tally.notes.append(f"{what}: {took:.0f} s, undisturbed {undisturbed:.0f} s")
            if "Traceback" in done.stdout:
                tally.bad(f"{what}: a traceback: {done.stdout[-400:]}")
            project.hold_together(tally, what)
    return tally


def disks(folder: Path, tries: int, draw: random.Random) -> Tally:
    """The disk of store, ledger and artifacts is full from a random moment on."""
    tally = Tally("full disk")
    for number in range(tries):
        project = Project(folder / f"disk-{number}")
        place = project.folder / "mlruns"
        place.mkdir()
        with small_disk(place) as made:
            if not made:
                tally.notes.append(NOT_MADE)
                return tally
            process = project.start()
            time.sleep(draw.uniform(3.0, 10.0))
            ballast = place / "ballast"
            fill(ballast)
            done = ended(process, PATIENCE_SECONDS)
            earlier = {found.entry for found in project.ledger.entries()}
            ballast.unlink()
            tally.tries += 1
            what = f"try {number}"
            if done.returncode == -9:
                tally.hung += 1
            passed = done.stdout.count(" pass")
            if done.returncode == 0 and "No space" not in done.stdout and not earlier:
                tally.bad(f"{what}: status 0, {passed} passed, and nothing was kept")
            again = ended(project.start(seeds=1), PATIENCE_SECONDS)
            if again.returncode:
                tally.bad(f"{what}: with room again: {again.returncode}: {again.stdout[-300:]}")
            if not earlier <= {found.entry for found in project.ledger.entries()}:
                tally.lost += 1
            project.hold_together(tally, what)
    return tally
