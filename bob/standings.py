"""How far each case of a selection is, by the rules of a session."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bob.case import Case, Context
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.evaluator.runs import Run
from bob.executors import Deliver, Submission
from bob.ledger import Ledger
from bob.options.values import Options
from bob.references.files import ReferenceStore
from bob.reuse import Earlier, Standing, State
from bob.tracking.recorder import NoTracker

_COUNTS = (State.DONE, State.LOOKED_AT)
"""States of a run that does not run again."""

WORST_FIRST = (State.FAILED, State.STALE, State.MISSING, State.LOOKED_AT, State.DONE)


@dataclass(frozen=True)
class CaseStanding:
    """How far a case is.

    Attributes:
        runs: Its runs that are known to be needed: a second stage follows from the first.
        verdict: What its results mean under the references; empty where some are missing.
    """

    case: Case
    runs: tuple[Run, ...]
    verdict: str = ""

    @property
    def state(self) -> State:
        """The worst state of its runs."""
        states = {run.standing.state for run in self.runs}
        return next(state for state in WORST_FIRST if state in states)

    @property
    def why(self) -> str:
        """What is to be said of the first run of that state."""
        return next(run.standing.why for run in self.runs if run.standing.state is self.state)

    @property
    def last(self) -> str:
        """When its newest result was finished, and the session."""
        found = [run.recorded for run in self.runs if run.recorded is not None]
        if not found:
            return ""
        newest = max(found, key=lambda recorded: recorded.time)
        return f"{newest.time[:16].replace('T', ' ')} {newest.session}"

    @property
    def to_run(self) -> int:
        """How many runs do not count."""
        return sum(run.standing.state not in _COUNTS for run in self.runs)

    @property
    def seeds(self) -> str:
        """How many runs count, of how many."""
        count = len(self.runs)
        return f"{count - self.to_run} of {count}" if self.to_run else str(count)


def standings(cases: Sequence[Case], options: Options, earlier: Earlier) -> list[CaseStanding]:
    """How far each case is, by the rules of a session with the same options.

    What has to be loaded to be compared is taken to be the same.
    """

    def lookup(case: Case, role: str) -> Standing:
        standing = earlier(case, role)
        first = next(iter(standing.candidates), standing.recorded)
        return replace(standing, recorded=first)

    store = ReferenceStore(options.references)
    store.check(options.scale)
    evaluator = Evaluator(
        executor=_NothingRuns(),
        context=Context(),
        store=store,
        tracker=NoTracker(),
        bands=Bands(options.bands),
        seeds=options.seeds or 1,
        seeds_given=options.seeds is not None,
        same_seed=options.repeats_reference,
        earlier=lookup,
    )
    found = []
    for case in cases:
        evaluator.submit(case)
        runs = evaluator.runs_of(case)
        judged = evaluator.bands is Bands.CHECK and not any(run.open for run in runs)
        verdict = evaluator.evaluate(case).verdict.status.value if judged else ""
        found.append(CaseStanding(case, runs, verdict))
    return found


def runs_left(cases: Sequence[Case], options: Options, root: Path) -> dict[str, int]:
    """How many runs of each case are not done, by the id of the case.

    Args:
        cases: A selection.
        options: Of a session, which asks ledger and store.
        root: The project's folder.

    Raises:
        BobError: The store does not answer.
    """
    from bob.tracking import check_reachable, resolve_store
    from bob.tracking.pulling import StoreResults
    from bob.tracking.readable import is_made
    from bob.tracking.writer import Writer

    destination = resolve_store(root, options.tracking_uri)
    earlier = Earlier(Ledger(destination.ledger))
    if is_made(destination):
        check_reachable(destination)
        earlier.elsewhere = StoreResults(Writer(destination), earlier.ledger)
    return {found.case.id: found.to_run for found in standings(cases, options, earlier)}


class _NothingRuns:
    """Takes cases and never runs them."""

    def submit(self, submission: Submission) -> None:
        """Nothing."""

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Never called: only cases of which every result is there are judged."""
        raise AssertionError(waiting_for)

    def cancel(self, tickets: Collection[str]) -> None:
        """Nothing."""

    def shutdown(self, *, cancel: bool) -> None:
        """Nothing."""
