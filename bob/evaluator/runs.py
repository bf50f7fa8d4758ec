"""Runs on their way, and those that a case's verdict rests on."""

from __future__ import annotations

from dataclasses import dataclass, field

from bob.case import Case, Failure, Result, Verdict
from bob.ledger.records import Recorded
from bob.references.forms import Reference
from bob.references.repeat import Repeat
from bob.reuse import Standing, State

NOT_LOOKED_UP = Standing(state=State.MISSING)


@dataclass
class Run:
    """A case of one seed on its way.

    Attributes:
        ticket: What the executor and the ledger know it by.
        run_id: Its MLflow run, once it has started.
        curve: Metrics of the epochs that have ended, by epoch counted from 1.
        recorded: What came out, once it has finished.
        cancelled: Whether nobody needs it any more.
        standing: What earlier sessions say of it.
        reused: Whether what came out is an earlier session's.
        recording: Whether MLflow was asked for a run.
    """

    ticket: str
    case: Case
    role: str
    run_id: str | None = None
    started: bool = False
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    recorded: Recorded | None = None
    cancelled: bool = False
    standing: Standing = NOT_LOOKED_UP
    reused: bool = False
    recording: bool = False

    @property
    def open(self) -> bool:
        """Whether it is still to be waited for."""
        return self.recorded is None and not self.cancelled

    @property
    def known(self) -> tuple[str, ...]:
        """Run keys of earlier results, one of which counts if the same is loaded."""
        return tuple(recorded.result.run_key for recorded in self.standing.candidates)

    @property
    def entry(self) -> str:
        """What a verdict calls it: its entry, of an earlier session behind that session's name."""
        earlier = self.recorded if self.reused else None
        return f"{earlier.session}/{earlier.entry}" if earlier is not None else self.ticket

    def reuse(self, recorded: Recorded) -> None:
        """Take the result of an earlier session for it."""
        self.recorded = recorded
        self.started = self.reused = True

    def recognise(self, key: str) -> None:
        """Take the candidate of a run key for it."""
        candidates = self.standing.candidates
        self.reuse(next(found for found in candidates if found.result.run_key == key))


@dataclass
class Group:
    """The runs that a case's verdict rests on.

    Attributes:
        role: ``check`` or ``reference``.
        first: Runs of the first stage; none until a run of a reference's seed has differed.
        further: Runs of the second stage, once it is due.
        again: A run of a seed of the reference, where the machine is like the reference's.
        reference: What that run is held against: the reference as it was when it was asked for.
        repeated: What it says, once it has finished.
        first_verdict: What the first stage means, once it has finished.
    """

    case: Case
    role: str
    first: list[Run]
    further: list[Run] = field(default_factory=list)
    again: Run | None = None
    reference: Reference | None = None
    repeated: Repeat | None = None
    first_verdict: Verdict | None = None

    @property
    def runs(self) -> list[Run]:
        """All of them, in the order they were asked for."""
        apart = self.again is not None and self.again not in self.first
        return [*([self.again] if self.again and apart else []), *self.first, *self.further]

    @property
    def judged(self) -> list[Result]:
        """Results that the bands are held against: of the first and the second stage."""
        runs = [*self.first, *self.further]
        return [run.recorded.result for run in runs if run.recorded is not None]

    @property
    def done(self) -> list[Run]:
        """Those that have finished."""
        return [run for run in self.runs if run.recorded is not None]

    @property
    def reused(self) -> list[tuple[Run, Recorded]]:
        """Those whose results are of earlier sessions, with the results."""
        found = [(run, run.recorded) for run in self.runs if run.reused]
        return [(run, recorded) for run, recorded in found if recorded is not None]

    @property
    def results(self) -> list[Result]:
        """What came out of those."""
        return [run.recorded.result for run in self.runs if run.recorded is not None]

    @property
    def failure(self) -> Failure | None:
        """Why a seed has no score, if one has none."""
        failures = (result.failure for result in self.results)
        return next((failure for failure in failures if failure is not None), None)
