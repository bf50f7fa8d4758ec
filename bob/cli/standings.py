"""How far each case of a selection is, by the rules of a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bob.case import Case, Context
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.evaluator.runs import Run
from bob.executors import Deliver, Submission
from bob.options.values import Options
from bob.references.files import ReferenceStore
from bob.reuse import Earlier, Standing, State
from bob.tabular import aligned
from bob.tracking.recorder import NoTracker

_COUNTS = (State.DONE, State.LOOKED_AT)
"""States of a run that does not run again."""

_WORST_FIRST = (State.FAILED, State.STALE, State.MISSING, State.LOOKED_AT, State.DONE)


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
        return next(state for state in _WORST_FIRST if state in states)

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
    def seeds(self) -> str:
        """How many runs count, of how many."""
        done = sum(run.standing.state in _COUNTS for run in self.runs)
        return str(done) if done == len(self.runs) else f"{done} of {len(self.runs)}"


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


def is_done(standing: CaseStanding) -> bool:
    """Whether nothing of a case is to be run."""
    return standing.state in _COUNTS


def table(found: Sequence[CaseStanding]) -> str:
    """A row a case, and a line for the whole."""
    rows = [("task", "name", "state", "runs", "verdict", "newest result (UTC)", "why")]
    rows += [
        (
            standing.case.task,
            standing.case.name,
            standing.state.value,
            standing.seeds,
            standing.verdict,
            standing.last,
            standing.why,
        )
        for standing in found
    ]
    counts = Counter(standing.state for standing in found)
    told = [f"{counts[state]} {state.value}" for state in reversed(_WORST_FIRST) if counts[state]]
    return "\n".join([*aligned(rows), f"{len(found)} cases: {'; '.join(told)}"])


def record(found: Sequence[CaseStanding]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [
        {
            "task": standing.case.task,
            "name": standing.case.name,
            "scale": standing.case.scale,
            "state": standing.state.name.lower(),
            "why": standing.why,
            "verdict": standing.verdict,
            "runs": [
                {
                    "seed": run.case.seed,
                    "role": run.role,
                    "state": run.standing.state.name.lower(),
                    "session": run.recorded.session if run.recorded else "",
                    "time": run.recorded.time if run.recorded else "",
                }
                for run in standing.runs
            ],
        }
        for standing in found
    ]
