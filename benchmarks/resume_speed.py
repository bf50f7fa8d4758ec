"""How long ``--resume`` takes to decide over thousands of results, and a summary to be made.

::

    python -m benchmarks.resume_speed --results 3000

One real result is kept under the names and seeds of the smoke cases, as often as asked for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from bob.case import Case, Context, run_key
from bob.catalog import load_catalog
from bob.evaluation import Evaluation
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.ledger import Ledger
from bob.ledger.records import Recorded, entry_name, now
from bob.ledger.score import best_scores, units_of
from bob.plan import Plan, Selection
from bob.references.files import BUILTIN, ReferenceStore
from bob.report import text
from bob.report.ranking import rank
from bob.report.sources import newest, recorded_of_session, scores_of_session
from bob.reuse import Earlier, State
from bob.run import run_case
from bob.tabular import aligned
from bob.tracking import NoTracker

_SESSIONS = 30
"""Sessions that the results are spread over."""


def cases_by_seed() -> Iterator[Case]:
    """The smoke cases of a real classification task, with one seed after the other."""
    cases = [case for case in Plan(load_catalog(), Selection()).cases("finetune") if case.seeded]
    for seed in count():
        yield from (case.with_seed(seed) for case in cases)


def fill(ledger: Ledger, cases: list[Case]) -> None:
    """Keep a real result under every case."""
    shortened = cases[0].recipe.model_copy(update={"epochs": 1})
    result = run_case(replace(cases[0], recipe=shortened), Context(accelerator="cpu"))
    assert result.failure is None, result.failure
    sessions = [f"session{number:04}" for number in range(_SESSIONS)]
    for session in sessions:
        ledger.open_session(session, {"bob.scale": "smoke"})
    for number, case in enumerate(cases):
        weights = case.backbone.weights
        digest = weights.sha256 if weights is not None else result.weights_digest
        key = run_key(case, weights=digest, data=result.data_digest, factory="")
        own = replace(result, case=case, run_key=key, weights_digest=digest)
        session = sessions[number % _SESSIONS]
        entry = entry_name(case, "check")
        ledger.write(Recorded(entry=entry, session=session, role="check", time=now(), result=own))


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--results", type=int, default=3000)
    args = command.parse_args()
    with tempfile.TemporaryDirectory(prefix="bob-resume-") as folder:
        ledger = Ledger(Path(folder) / "ledger")
        cases = list(islice(cases_by_seed(), args.results))
        fill(ledger, cases)
        begun = time.perf_counter()
        earlier = Earlier(ledger)
        standings = [earlier(case, "check") for case in cases]
        decided = time.perf_counter() - begun
        done = sum(standing.state is State.DONE for standing in standings)
        print(f"{done} of {len(cases)} results decided on in {decided:.1f} s")
        evaluations = _evaluated(ledger, cases)
        begun = time.perf_counter()
        lines = _summary(evaluations)
        print(f"a summary of them, {len(lines)} lines, in {time.perf_counter() - begun:.1f} s")
    return 0


def _evaluated(ledger: Ledger, cases: list[Case]) -> list[Evaluation]:
    evaluator = Evaluator(
        executor=make_executor("inline"),
        context=Context(accelerator="cpu"),
        store=ReferenceStore(BUILTIN),
        tracker=NoTracker(),
        earlier=Earlier(ledger),
    )
    begun = time.perf_counter()
    for case in cases:
        evaluator.submit(case)
    opened = time.perf_counter() - begun
    waiting = [case for case in cases if any(run.open for run in evaluator.runs_of(case))]
    evaluations = [evaluator.evaluate(case) for case in cases if case not in waiting]
    took = time.perf_counter() - begun
    print(
        f"{len(evaluations)} of {len(cases)} cases opened and judged in {took:.1f} s, of which "
        f"{opened:.1f} s to open; {len(waiting)} would run a second stage"
    )
    return evaluations


def _summary(evaluations: list[Evaluation]) -> list[str]:
    lines = aligned(text.table(evaluations))
    text.summary_rows(evaluations)
    rank(
        newest(best_scores(scores_of_session(evaluations))),
        units=units_of(recorded_of_session(evaluations)),
        backbones={evaluation.case.backbone.key for evaluation in evaluations},
    )
    return lines


if __name__ == "__main__":
    sys.exit(main())
