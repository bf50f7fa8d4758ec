"""What is known of a session's runs while they run, and how long they will take. No clock in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bob.case import Case, Progress


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run that has started.

    Attributes:
        progress: The newest of it; none before the first.
        score: The newest value of the case's metric.
        loss: The newest training loss.
        left: Seconds it will still take; none where nothing tells.
    """

    case: Case
    progress: Progress | None
    score: float | None
    loss: float | None
    left: float | None


@dataclass(frozen=True, kw_only=True)
class View:
    """A session at one moment.

    Attributes:
        done: Runs that have ended.
        known: Runs that were asked for, those that have ended among them.
        running: Oldest first.
        left: Seconds that all of them will still take; none where nothing tells.
    """

    done: int
    known: int
    running: tuple[Running, ...]
    left: float | None


@dataclass
class _Run:
    case: Case
    hours: float | None
    started: float | None = None
    seconds: float | None = None
    progress: Progress | None = None
    score: float | None = None
    loss: float | None = None
    first: tuple[float, float] | None = None
    newest: tuple[float, float] | None = None
    anew: bool = False


class Board:
    """Gathers what happens to runs, by ticket; moments are seconds of any one clock."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def planned(self, ticket: str, case: Case, hours: float | None) -> None:
        """A run was asked for.

        Args:
            ticket: Names it.
            case: What runs.
            hours: What the plan estimates, on whatever device; none where nothing tells.
        """
        self._runs[ticket] = _Run(case, hours)

    def started(self, ticket: str, now: float) -> None:
        """It has started."""
        if run := self._runs.get(ticket):
            run.started = now

    def moved(self, ticket: str, progress: Progress, now: float) -> None:
        """It has come further."""
        run = self._runs.get(ticket)
        if run is None:
            return
        run.progress = progress
        run.score = progress.metrics.get(run.case.metric, run.score)
        loss = progress.loss if progress.loss is not None else progress.metrics.get("train_loss")
        run.loss = run.loss if loss is None else loss
        share = share_done(progress)
        if share is not None:
            # A case of several trainings, or that starts anew: this one's pace is not the whole's.
            run.anew = run.anew or (run.newest is not None and share < run.newest[1])
            run.first = run.first or (now, share)
            run.newest = now, share

    def ended(self, ticket: str, now: float) -> None:
        """It has ended, well or not."""
        run = self._runs.get(ticket)
        if run is not None and run.seconds is None:
            run.seconds = now - (now if run.started is None else run.started)

    def dropped(self, ticket: str) -> None:
        """Nobody needs it any more."""
        self._runs.pop(ticket, None)

    def view(self, now: float) -> View:
        """How the session stands."""
        runs = self._runs.values()
        done = [run for run in runs if run.seconds is not None]
        at_work = [run for run in runs if run.seconds is None and run.started is not None]
        at_work.sort(key=lambda run: run.started or 0.0)
        waiting = [run for run in runs if run.seconds is None and run.started is None]
        rates = _Rates(done)
        lefts = [_left(run, rates, now) for run in at_work]
        further = [rates.seconds(run) for run in waiting]
        return View(
            done=len(done),
            known=len(self._runs),
            running=tuple(
                Running(case=run.case, progress=run.progress, score=run.score,
                        loss=run.loss, left=left)
                for run, left in zip(at_work, lefts, strict=True)
            ),
            left=_together(lefts, further),
        )  # fmt: skip


class _Rates:
    """What the runs that have ended took for what the plan had estimated, by task and of all."""

    def __init__(self, done: Iterable[_Run]) -> None:
        self._sums: dict[str, _Sums] = {}
        for run in done:
            for task in (run.case.task, ""):
                self._sums.setdefault(task, _Sums()).add(run)

    def seconds(self, run: _Run) -> float | None:
        """What a run will take: by runs of its task, else by all of them."""
        sums = self._sums.get(run.case.task) or self._sums.get("")
        if sums is None:
            return None
        if run.hours and sums.hours:
            return run.hours * sums.seconds_of_hours / sums.hours
        return sums.seconds / sums.runs


@dataclass
class _Sums:
    runs: int = 0
    seconds: float = 0.0
    hours: float = 0.0
    seconds_of_hours: float = 0.0

    def add(self, run: _Run) -> None:
        self.runs += 1
        self.seconds += run.seconds or 0.0
        if run.hours:
            self.hours += run.hours
            self.seconds_of_hours += run.seconds or 0.0


def _left(run: _Run, rates: _Rates, now: float) -> float | None:
    """By its own pace once that can be seen, else by what others took."""
    if run.first is not None and run.newest is not None and not run.anew:
        (began, before), (then, share) = run.first, run.newest
        if share > before and then > began:
            pace = (then - began) / (share - before)
            return max(0.0, (1 - share) * pace - (now - then))
    seconds = rates.seconds(run)
    return None if seconds is None else max(0.0, seconds - (now - (run.started or now)))


def _together(running: list[float | None], waiting: list[float | None]) -> float | None:
    """All of them on as many workers as run now; the longest bounds it."""
    known = [seconds for seconds in (*running, *waiting) if seconds is not None]
    if len(known) < len(running) + len(waiting):
        return None
    longest = max((seconds for seconds in running if seconds is not None), default=0.0)
    return max(sum(known) / max(1, len(running)), longest)


def share_done(progress: Progress) -> float | None:
    """How much of its training a case has done, from 0 to 1; none where it does not train now."""
    if progress.phase not in ("train", "epoch") or not progress.epochs:
        return None
    inside = 1.0 if progress.phase == "epoch" else progress.step / max(1, progress.steps)
    return min(1.0, (progress.epoch + inside) / progress.epochs)
