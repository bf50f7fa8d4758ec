"""A session that is recorded again without training, to any store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bob.case import Case, Context, Progress, Verdict
from bob.evaluation import Bands
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.ledger import Ledger
from bob.ledger.plain import jsonable
from bob.ledger.records import Judgement, Recorded
from bob.references.files import ReferenceStore
from bob.report.text import summary_row
from bob.tracking import Destination, NoTracker, Tracker
from bob.tracking.patience import Patience
from bob.tracking.sync import Report, sync
from bob.tracking.writer import Writer
from tests.store_parts import facts_of

Facts = dict[str, dict[str, Any]]
Undisturbed = dict[int, Facts]
"""What a store says that was never disturbed, by seeds of the session."""


@dataclass(frozen=True)
class Outcome:
    """Two seeds of a case that has a reference, and what they mean: real results."""

    recorded: tuple[Recorded, ...]
    judgement: Judgement


def measured(case: Case, folder: Path) -> Outcome:
    """Runs three seeds for a reference in a folder, and the two that are checked against it."""
    ledger = Ledger(folder / "ledger")
    for session, bands, seeds in (("measured", Bands.ALL, 3), ("checked", Bands.CHECK, 2)):
        ledger.open_session(session, {})
        Evaluator(
            executor=make_executor("inline"),
            context=Context(accelerator="cpu"),
            store=ReferenceStore(folder / "references"),
            tracker=NoTracker(),
            ledger=ledger,
            session=session,
            bands=bands,
            seeds=seeds,
            seeds_given=True,
        ).evaluate(case)
    (judgement,) = ledger.verdicts("checked")
    assert judgement.verdict.comparisons
    named = {entry.entry: entry for entry in ledger.entries("checked")}
    return Outcome(tuple(named[name] for name in judgement.entries), judgement)


class Replay:
    """A session that keeps and records the outcome as the evaluator does, without training.

    Args:
        store: Where it records.
        outcome: What comes out of it.
        seconds: How long the store may keep it waiting.
        seeds: How many of the two seeds it runs.
    """

    def __init__(
        self, store: Destination, outcome: Outcome, *, seconds: float = 30, seeds: int = 2
    ) -> None:
        root = store.ledger.parent / "project"
        root.mkdir(exist_ok=True)
        self.tracker = Tracker(store, "tiny", root)
        self.tracker.writer.patience = Patience(seconds)
        self.ledger = Ledger(store.ledger)
        self.recorded = [
            replace(entry, session=self.tracker.session) for entry in outcome.recorded[:seeds]
        ]
        self.judgement = replace(
            outcome.judgement,
            session=self.tracker.session,
            entries=tuple(entry.entry for entry in self.recorded),
        )
        self.pairs: list[tuple[str | None, Recorded]] = []
        self.waited = 0.0

    @property
    def session(self) -> str:
        return self.tracker.session

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    def start(self) -> Replay:
        self.tracker.start_session({})
        self.ledger.open_session(self.session, self.tracker.facts)
        return self

    def results(self) -> Replay:
        for entry in self.recorded:
            self.result(entry)
        return self

    def result(self, entry: Recorded, *, broken: Callable[[], None] = lambda: None) -> None:
        """Record a seed; the store breaks once it has begun."""
        began = time.monotonic()
        run_id = self.tracker.start_case(entry.result.case, role=entry.role, entry=entry.entry)
        broken()
        for epoch, metrics in entry.curve:
            self.tracker.log_progress(
                run_id, Progress(phase="epoch", epoch=epoch - 1, epochs=2, metrics=metrics)
            )
        self.ledger.write(entry)
        self.tracker.finish_case(run_id, entry)
        self.pairs.append((run_id, entry))
        self.waited += time.monotonic() - began

    def judge(self) -> Replay:
        began = time.monotonic()
        self.ledger.write_verdict(self.judgement)
        self.tracker.log_verdict(self.pairs, self.verdict, name=self.judgement.name)
        self.waited += time.monotonic() - began
        return self

    def finish(self) -> Replay:
        began = time.monotonic()
        rows = jsonable([summary_row(self.recorded[0].result.case, self.verdict, None)])
        summary: dict[str, Any] = {"table": "| a |", "rows": rows, "counts": {"pass": 1}}
        self.ledger.write_summary(self.session, {**summary, "status": "FINISHED", "further": {}})
        self.tracker.finish_session(**summary, status="FINISHED")
        self.waited += time.monotonic() - began
        return self

    def whole(self) -> Replay:
        return self.start().results().judge().finish()

    def facts(self) -> Facts:
        """What the store says of it now, asked anew."""
        return facts_of(Writer(self.tracker.store), self.session)

    def sync(self) -> Report:
        return sync(self.ledger, Writer(self.tracker.store), sessions=[self.session])


def same(facts: Facts, expected: Facts) -> bool:
    assert facts.keys() == expected.keys()
    for name, parts in facts.items():
        for part, value in parts.items():
            assert value == expected[name][part], (name, part)
    return True
