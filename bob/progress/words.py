"""Progress as text: pure functions of what is known, for a width in cells of a terminal."""

from __future__ import annotations

import unicodedata

from bob.case import Case, Progress
from bob.progress.board import Running, View
from bob.shown import line

_LONGEST_BAR = 30
_SHORTEST_NAME = 6
_NAMED = 4
"""Running cases that a line of a log names."""


def describe(run: Running) -> str:
    """One line: the case, its phase, loss, the newest score, and how long it will take."""
    return f"{_name(run.case)}: {_standing(run)}"


def _name(case: Case) -> str:
    return f"{line(case.name)} {case.task} seed {case.seed}"


def _standing(run: Running, *, loss: bool = True, score: bool = True) -> str:
    text = _phase(run.progress)
    if loss and run.loss is not None:
        text += f" loss {run.loss:.4g}"
    if score and run.score is not None:
        text += f" {run.case.metric} {run.score:.4f}"
    return f"{text}, {duration(run.left)} left" if run.left and run.left >= 1 else text


def _phase(progress: Progress | None) -> str:
    if progress is None:
        return "started"
    words = {
        "load": "loading", "loaded": "loaded",
        "wait": "waiting for another process that extracts the same features",
        "search": f"grid {progress.step + 1}/{progress.steps}",
    }  # fmt: skip
    if progress.phase in words:
        return words[progress.phase]
    steps = f" {progress.step}/{progress.steps}" if progress.steps else ""
    if progress.phase in ("extract", "fit"):
        return progress.phase + steps
    epoch = f"epoch {progress.epoch + 1}/{progress.epochs}" if progress.epochs else ""
    if progress.phase == "train":
        return f"{epoch} step{steps}"
    if progress.phase == "evaluate":
        return f"{epoch} evaluating{steps}".strip()
    return epoch


def block(view: View, *, width: int, height: int) -> list[str]:
    """A bar for the whole and a line for each running case.

    Args:
        view: How the session stands.
        width: Cells of a line at most.
        height: Lines at most; one says how many cases are left out.
    """
    room = max(0, height - 1)
    shown = view.running if len(view.running) <= room else view.running[: max(0, room - 1)]
    lines = [fitted(whole(view, width=width), width), *(row(run, width) for run in shown)]
    hidden = len(view.running) - len(shown)
    return [*lines, fitted(f"... and {hidden} more", width)] if hidden and room else lines


def row(run: Running, width: int) -> str:
    """A line of so many cells. Where a case stands comes before seed, task and score."""
    standings = [
        _standing(run),
        _standing(run, score=False),
        _standing(run, score=False, loss=False),
    ]
    for standing in standings:
        for name in (_name(run.case), line(run.case.name)):
            if cells(name) + cells(standing) + 2 <= width:
                return f"{name}: {standing}"
    for standing in standings:
        room = width - cells(standing) - 2
        if room >= _SHORTEST_NAME:
            return f"{fitted(line(run.case.name), room)}: {standing}"
    return fitted(describe(run), width)


def whole(view: View, *, width: int) -> str:
    """The bar: runs that have ended and that are known, and how long they will take."""
    text = f"{view.done}/{view.known} runs"
    if view.left is not None and view.known > view.done:
        text += f", {duration(view.left)} left"
    room = min(_LONGEST_BAR, width - cells(text) - 3)
    if room < 5 or not view.known:
        return text
    full = room * view.done // view.known
    return f"[{'#' * full}{'.' * (room - full)}] {text}"


def log_line(view: View) -> str:
    """The whole and the names of the cases that run, on one line."""
    text = f"bob: {view.done}/{view.known} runs done"
    if view.left is not None:
        text += f", {duration(view.left)} left"
    names = [_name(run.case) for run in view.running[:_NAMED]]
    if not names:
        return text
    more = f" and {len(view.running) - _NAMED} more" if len(view.running) > _NAMED else ""
    return f"{text}; running: {', '.join(names)}{more}"


def duration(seconds: float) -> str:
    """About how long, in one unit: ``40 s``, ``12 min``, ``3.5 h``, ``4.2 d``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"


def cells(text: str) -> int:
    """Cells of a terminal that a text takes: wide characters two, combining ones none."""
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitted(text: str, width: int) -> str:
    """Text of at most so many cells; of a longer one the middle is left out."""
    if cells(text) <= width:
        return text
    if width < 2:
        return ""
    head = (width - 1) * 3 // 5
    return f"{cut(text, head)}…{cut(text[::-1], width - 1 - head)[::-1]}"


def cut(text: str, width: int) -> str:
    """The beginning of a text, of at most so many cells."""
    taken = 0
    for place, character in enumerate(text):
        taken += _cells(character)
        if taken > width:
            return text[:place]
    return text
