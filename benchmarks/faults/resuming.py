"""Smoke sessions that are killed again and again, and taken up again with ``--resume``."""

from __future__ import annotations

import importlib.util
import math
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.faults.project import ended
from benchmarks.faults.smoke_project import Run, SmokeProject
from benchmarks.faults.tally import Tally
from benchmarks.faults.victims import (
    WHOLE_SECONDS,
    Campaign,
    CaseProcesses,
    RayNodes,
    Servers,
    Sessions,
    Victim,
)

KINDS = ("session", "case", "server", "ray")
KILLS_A_PROJECT = 5
_MOST_MISSED = 5
_LINGER_SECONDS = 20.0


def kills_and_resumes(
    folder: Path, tries: int, draw: random.Random, kinds: tuple[str, ...] = KINDS
) -> Tally:
    """``kill -9`` of session, case, server or Ray node, then ``--resume``.

    Every project is killed several times at random moments before its session may end. Each kind
    has a fair share of the kills.

    Args:
        folder: Where projects are made.
        tries: How many kills.
        draw: Of moments.
        kinds: Of what is killed.
    """
    tally, campaign = Tally("kills and --resume"), Campaign()
    whole = SmokeProject(folder / "undisturbed")
    done = ended(whole.session(), WHOLE_SECONDS)
    expected = whole.scores()
    campaign.cases = len(expected)
    if done.returncode or not expected:
        tally.bad(f"the undisturbed session ended with {done.returncode}: {done.stdout[-400:]}")
        return tally
    with ExitStack() as stack:
        victims = {
            kind: stack.enter_context(closing(victim))
            for kind in kinds
            if (victim := _victim(kind, folder, tally)) is not None
        }
        share = math.ceil(tries / len(victims))
        made, number, missed = Counter[str](), 0, 0
        while tally.tries < tries and missed < _MOST_MISSED:
            kind = min(victims, key=lambda kind: made[kind])
            most = min(KILLS_A_PROJECT, share - made[kind], tries - tally.tries)
            project = victims[kind].project(folder / f"{kind}-{number}")
            count = victims[kind].kill(project, most, draw, campaign, tally)
            made[kind] += count
            tally.tries += count
            missed = 0 if count else missed + 1
            _complete(project, expected, tally, campaign, f"{kind} {number}")
            number += 1
    if missed:
        tally.bad(f"{missed} sessions in a row ended before anything was killed")
    _tell(tally, campaign, number)
    return tally


def ray_kills(folder: Path, tries: int, draw: random.Random) -> Tally:
    """The kills of Ray nodes, workers and controllers alone."""
    tally = kills_and_resumes(folder, tries, draw, ("ray",))
    tally.name = "Ray kills"
    return tally


def _victim(kind: str, folder: Path, tally: Tally) -> Victim | None:
    if kind == "ray" and importlib.util.find_spec("ray") is None:
        tally.notes.append("Ray is not installed: no node of it was killed")
        return None
    if kind == "server":
        return Servers(folder / "server")
    makers: dict[str, type[Sessions | CaseProcesses | RayNodes]] = {
        "session": Sessions, "case": CaseProcesses, "ray": RayNodes,
    }  # fmt: skip
    return makers[kind]()


def _tell(tally: Tally, campaign: Campaign, projects: int) -> None:
    told = ", ".join(f"{count} of the {kind}" for kind, count in sorted(campaign.kills.items()))
    tally.notes.append(f"kills of a running process: {told or 'none'}")
    tally.notes.append(f"{projects} projects of {campaign.cases} runs each")
    tally.notes.append(
        f"work done again {campaign.redone:.0f} s, work that counts {campaign.worked:.0f} s"
    )


def _complete(
    project: SmokeProject,
    expected: Mapping[Run, tuple[float, ...]],
    tally: Tally,
    campaign: Campaign,
    what: str,
) -> None:
    """The last session, after which every run has to be there once with the expected values."""
    done = ended(project.session(), WHOLE_SECONDS)
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
    until = time.monotonic() + _LINGER_SECONDS
    while left := project.left_processes():
        if time.monotonic() > until:
            tally.bad(f"{what}: still running: {'; '.join(left)}")
            return
        time.sleep(0.5)
