"""``bob check``: what of a selection has been run, and what ``--resume`` would run."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bob.case import Case, Context
from bob.cli.selecting import add_selection, selected_cases
from bob.errors import BobError
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.evaluator.runs import Run
from bob.executors import Deliver, Submission
from bob.ledger import Ledger
from bob.options.arguments import add_arguments, read_arguments
from bob.options.values import Options
from bob.references.files import ReferenceStore
from bob.reuse import Earlier, State
from bob.tabular import aligned
from bob.tracking import resolve_store
from bob.tracking.destination import check_reachable
from bob.tracking.pulling import StoreResults
from bob.tracking.recorder import NoTracker
from bob.tracking.writer import Writer

_COUNTS = (State.DONE, State.LOOKED_AT)
"""States of a run that does not run again."""

_WORST_FIRST = (State.FAILED, State.STALE, State.MISSING, State.LOOKED_AT, State.DONE)


def add_command(commands: Any) -> None:
    """Add ``check`` to an argument parser."""
    check = commands.add_parser(
        "check", help="what of a selection has been run",
        description="Says of each case of a selection whether its results are in the ledger "
        "(done), or why they are not: missing, failed, or stale, which means that something else "
        "was run under its name. It runs nothing. The exit status is 1 when something is to be "
        "run, and that is what pytest with the same options and --resume runs.",
    )  # fmt: skip
    add_arguments(check, "check")
    add_selection(check)
    check.add_argument("--ledger", default="", metavar="DIR", help="mlruns/ledger by default")
    check.add_argument("--json", action="store_true", help="for machines")
    check.set_defaults(run=_check)


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
    """How far each case is, by the rules of a session with the same options."""
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
        earlier=earlier,
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


def _check(args: argparse.Namespace) -> int:
    options = read_arguments(args)
    cases = selected_cases(args, options)
    if not cases:
        raise BobError("No case is selected: see `bob plan` with the same options.")
    destination = resolve_store(Path.cwd(), options.tracking_uri)
    root = Path(args.ledger) if args.ledger else destination.ledger
    earlier = Earlier(Ledger(root))
    if options.tracking_uri:
        check_reachable(destination)
        earlier.elsewhere = StoreResults(Writer(destination), earlier.ledger)
    found = standings(cases, options, earlier)
    print(json.dumps(_record(found), indent=1) if args.json else _table(found))
    for problem in earlier.problems:
        print(f"bob: the store was not asked for what the ledger lacks: {problem}", file=sys.stderr)
    for damage in earlier.index.damaged:
        print(f"not read: {damage}", file=sys.stderr)
    if not root.is_dir():
        print(f"bob: there is no ledger at {root}; --ledger names another", file=sys.stderr)
    return 0 if all(standing.state in _COUNTS for standing in found) else 1


def _table(found: Sequence[CaseStanding]) -> str:
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


def _record(found: Sequence[CaseStanding]) -> list[dict[str, Any]]:
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
