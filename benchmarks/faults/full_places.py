"""Each place that a session writes to, full while a case trains; then with room again."""

from __future__ import annotations

import random
import subprocess
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.faults.project import ended
from benchmarks.faults.small_disk import NOT_MADE, fill, small_disk
from benchmarks.faults.smoke_project import Run, SmokeProject
from benchmarks.faults.tally import Tally
from bob.checkpoints import ENDING

PLACES = ("checkpoints", "everything", "ledger", "store", "features")
"""What lies on the small disk: ``everything`` is the folder ``mlruns``."""
_CASES = ("--pyargs", "suites", "-k", "swin_micro_random and digits", "-m", "knn or finetune")
_SAID = ("No space left", "disk is full", "do not fit the disk")
_SECONDS = 400.0
_MEBIBYTES = 24


def full_places(folder: Path, tries: int, draw: random.Random) -> Tally:
    """A disk that fills up while a case trains and writes a checkpoint at every step.

    A checkpoint, features and the store may cost no result. What the ledger cannot keep is named,
    earlier results stay, and a session with room again comes to the undisturbed scores.
    """
    tally = Tally("full places")
    whole = SmokeProject(folder / "undisturbed", selection=_CASES)
    done = ended(whole.session(), _SECONDS)
    expected = whole.scores()
    if done.returncode or not expected:
        tally.bad(f"the undisturbed session ended with {done.returncode}: {done.stdout[-400:]}")
        return tally
    for number, place in enumerate(islice(cycle(PLACES), tries)):
        if not _filled(folder / f"{place}-{number}", place, expected, tally, draw):
            tally.notes.append(NOT_MADE)
            break
    return tally


def _filled(
    folder: Path,
    place: str,
    expected: dict[Run, tuple[float, ...]],
    tally: Tally,
    draw: random.Random,
) -> bool:
    """One try; whether a small disk could be made."""
    runs = folder / "mlruns"
    disk = {
        "everything": runs, "store": folder / "store", "features": folder / "features",
    }.get(place, runs / place)  # fmt: skip
    disk.mkdir(parents=True)
    store = f"sqlite:///{disk}/mlflow.db" if place == "store" else ""
    project = SmokeProject(
        folder, store=store, options=(f"--features={folder / 'features'}",), selection=_CASES
    )
    with small_disk(disk, mebibytes=_MEBIBYTES) as made:
        if not made:
            return False
        ballast, earlier = disk / "ballast", {}
        if place == "features":
            fill(ballast, leave=draw.choice((0, 1, 20)) * 4096)
        else:
            first = ended(project.session("-m", "knn"), _SECONDS)
            earlier = project.scores()
            if first.returncode or not earlier:
                tally.bad(f"{place}: a first session: {first.returncode}: {first.stdout[-400:]}")
        process = project.session()
        if _trains(project, process):
            tally.tries += 1
        else:
            tally.bad(f"{place}: nothing trained that could be met")
        if place != "features":
            time.sleep(draw.uniform(0.0, 2.0))
            fill(ballast)
        done = ended(process, _SECONDS)
        _judge_full(project, place, done, expected, tally)
        lost = earlier.keys() - project.scores().keys()
        tally.lost += len(lost)
        ballast.unlink()
        _judge_with_room(project, place, expected, tally)
    return True


def _trains(project: SmokeProject, process: subprocess.Popen[str]) -> bool:
    """Wait until a case has written a checkpoint; whether one did."""
    while process.poll() is None:
        if any(project.checkpoints.glob(f"*{ENDING}")):
            return True
        time.sleep(0.05)
    return False


def _judge_full(
    project: SmokeProject,
    place: str,
    done: subprocess.CompletedProcess[str],
    expected: dict[Run, tuple[float, ...]],
    tally: Tally,
) -> None:
    """What a session may be like whose disk was full."""
    told = f"{place}: status {done.returncode}: {done.stdout[-1500:]}"
    if done.returncode == -9:
        tally.hung += 1
    if "Traceback" in done.stdout or done.returncode not in (0, 1):
        tally.bad(told)
    if not any(words in done.stdout for words in _SAID):
        tally.bad(f"nothing was said of the disk. {told}")
    found = project.scores()
    kept = {run: values for run, values in found.items() if expected.get(run) == values}
    if kept != found:
        tally.bad(f"{place}: {found}, undisturbed {expected}")
    if place in ("checkpoints", "store", "features"):  # these may cost no result
        if kept != expected or done.returncode:
            tally.bad(f"a result was lost or the session failed. {told}")
    elif kept != expected and (done.returncode != 1 or "not kept on disk" not in done.stdout):
        tally.bad(f"what was not kept was not named. {told}")


def _judge_with_room(
    project: SmokeProject, place: str, expected: dict[Run, tuple[float, ...]], tally: Tally
) -> None:
    """With room again everything is there once, with the undisturbed scores, and no rest."""
    done = ended(project.session(), _SECONDS)
    if done.returncode:
        tally.bad(f"{place}, with room: status {done.returncode}: {done.stdout[-800:]}")
    if project.scores() != expected:
        tally.bad(f"{place}, with room: {project.scores()}, undisturbed {expected}")
    project.hold_together(tally, place)
    left = [str(path) for path in project.checkpoints.glob("*") if path.name != "ballast"]
    left += map(str, project.ledger.root.glob("*/.writing-*"))
    if left:
        tally.bad(f"{place}: left behind: {left}")
