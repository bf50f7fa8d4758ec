"""Sending what an MLflow store does not have yet, from the ledger: every case exactly once.

What is there is found by its tags, not by a note of what was sent, so that a second run sends
nothing, whichever store it is asked for, and one that was killed half-way is made good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bob.errors import BobError
from bob.ledger.ledger import Ledger
from bob.ledger.records import Judgement, Recorded, superseded
from bob.tracking import projection
from bob.tracking.leftovers import ENDED_BY, end_leftovers
from bob.tracking.process import is_alive_elsewhere
from bob.tracking.projection import RunContent, experiment_name
from bob.tracking.sending import (
    Sent,
    began,
    common_tags,
    milliseconds,
    send_trials,
    send_verdict,
)
from bob.tracking.writer import INCOMPLETE, UNSENT, Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

_ENDED = ("FINISHED", "FAILED")


@dataclass
class Report:
    """What a synchronisation did.

    Attributes:
        sent: Results that were sent.
        mended: Results of which the store had a part, sent anew.
        verdicts: Verdicts that were added.
        sessions: Summaries of sessions that were sent.
        present: Results that were there already.
        running: Sessions that another process is still writing; they are left to it.
        notes: What killed sessions had left open, in lines.
    """

    sent: int = 0
    mended: int = 0
    verdicts: int = 0
    sessions: int = 0
    present: int = 0
    running: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sync(ledger: Ledger, writer: Writer, *, sessions: Sequence[str] = ()) -> Report:
    """Send what a store lacks, and end what killed sessions left open in it.

    Args:
        ledger: Where results are.
        writer: Where they go.
        sessions: Which; all by default.

    Raises:
        BobError: The store stopped taking them.
    """
    report = Report()
    writer.settle()
    for session in sessions or ledger.sessions():
        with _taking(writer, f"session {session}"):
            _Session(ledger, writer, session, report).send()
    with _taking(writer, "the ends of killed sessions"):
        report.notes = end_leftovers(writer, session="bob sync")
    return report


@contextmanager
def _taking(writer: Writer, what: str) -> Iterator[None]:
    try:
        yield
    except BobError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise BobError(
            f"{writer.destination.uri} stopped taking {what} ({type(error).__name__}: {text}). "
            "What was sent is there. Run this again when it is back; nothing is sent twice."
        ) from error


@dataclass
class _Session:
    ledger: Ledger
    writer: Writer
    session: str
    report: Report
    runs: dict[str, str] = field(default_factory=dict)

    def send(self) -> None:
        """Results, then verdicts over them, then the summary."""
        facts, opened = self.ledger.facts(self.session)
        if not facts:
            return
        entries = list(self.ledger.entries(self.session))
        common = common_tags(self.session, facts)
        scale = facts.get("bob.scale", "")
        names = {experiment_name(scale, entry.result.case.task) for entry in entries}
        sessions = experiment_name(scale, "sessions")
        found = self.writer.runs(self.session, sorted({*names, sessions}))
        if any(run.info.status == "RUNNING" and is_alive_elsewhere(run.data.tags) for run in found):
            self.report.running.append(self.session)
            return
        self._results(entries, found, common)
        self._verdicts({entry.entry: entry for entry in entries}, found, common)
        self._summary([run for run in found if _tag(run, "bob.level") == "session"], common, opened)
        self.writer.drop_twins()

    def _results(
        self, entries: Sequence[Recorded], found: Sequence[Run], common: Mapping[str, str]
    ) -> None:
        there: dict[str, list[Run]] = {}
        for run in found:
            if _tag(run, "bob.role") in ("check", "reference") and _tag(run, "bob.entry"):
                there.setdefault(_tag(run, "bob.entry"), []).append(run)
        children: dict[str, list[Run]] = {}
        for run in found:
            if _tag(run, "bob.role") == "trial":
                children.setdefault(_tag(run, "mlflow.parentRunId"), []).append(run)
        gone = superseded(entries, self.ledger.verdicts(self.session))
        for name in gone:
            for run in there.get(name, ()):
                self._delete([*children.get(run.info.run_id, ()), run])
        for entry in (entry for entry in entries if entry.entry not in gone):
            runs = there.get(entry.entry, [])
            whole = [run for run in runs if self._is_whole(run, entry, children)]
            for run in runs:
                if run not in whole[:1]:
                    self._delete([*children.get(run.info.run_id, ()), run])
            if whole:
                self.runs[entry.entry] = whole[0].info.run_id
                self.report.present += 1
                continue
            self.runs[entry.entry] = self._result(entry, common)
            if runs:
                self.report.mended += 1
            else:
                self.report.sent += 1

    @staticmethod
    def _is_whole(run: Run, entry: Recorded, children: Mapping[str, Sequence[Run]]) -> bool:
        """Whether a run has all that ``_result`` gives; its end is the last thing that is told."""
        tried = len(children.get(run.info.run_id, ()))
        if _lacks(run):
            return False
        return run.info.status in _ENDED and tried == len(entry.result.trials)

    def _result(self, entry: Recorded, common: Mapping[str, str]) -> str:
        case = entry.result.case
        ended = milliseconds(entry.time)
        content = projection.started(case, role=entry.role, entry=entry.entry)
        run_id = self.writer.create(
            experiment_name(case.scale, case.task),
            projection.run_name(case),
            {**common, **content.tags},
            ticket=f"{self.session}/{entry.entry}",
            start=began(entry),
        )
        self.writer.add(run_id, RunContent(params=content.params, dataset=content.dataset))
        self.writer.log(run_id, projection.curve(entry))
        self.writer.add(run_id, projection.finished(entry.result))
        send_trials(self.writer, entry, run_id, common=common)
        self.writer.end(run_id, "FAILED" if entry.result.failure else "FINISHED", at=ended)
        return run_id

    def _verdicts(
        self, entries: Mapping[str, Recorded], found: Sequence[Run], common: Mapping[str, str]
    ) -> None:
        by_id = {run.info.run_id: run for run in found}
        parents: dict[str, list[Run]] = {}
        for run in found:
            if _tag(run, "bob.verdict_name"):
                parents.setdefault(_tag(run, "bob.verdict_name"), []).append(run)
        for judgement in self.ledger.verdicts(self.session):
            if not judgement.entries or any(name not in self.runs for name in judgement.entries):
                continue  # a result of it was damaged, which the ledger names, or counts no more
            sent: list[Sent] = [(self.runs[name], entries[name]) for name in judgement.entries]
            above = parents.get(judgement.name, [])
            whole = [run for run in above if self._is_judged(judgement, sent, by_id, run)]
            for run in above:
                if run not in whole[:1]:
                    self._delete([run])
            if whole or (len(sent) == 1 and self._is_judged(judgement, sent, by_id, None)):
                continue
            single = by_id.get(sent[0][0])
            send_verdict(
                self.writer,
                sent,
                judgement.verdict,
                name=judgement.name,
                common=common,
                told=single.data.metrics if single else (),
            )
            self.report.verdicts += 1

    @staticmethod
    def _is_judged(
        judgement: Judgement, sent: Sequence[Sent], runs: Mapping[str, Run], parent: Run | None
    ) -> bool:
        status = judgement.verdict.status.value
        for run_id, _ in sent:
            run = runs.get(run_id)
            if run is None or _tag(run, "bob.verdict") != status:
                return False
            if parent is not None and _tag(run, "mlflow.parentRunId") != parent.info.run_id:
                return False
        return parent is None or (parent.info.status in _ENDED and not _lacks(parent))

    def _summary(self, runs: Sequence[Run], common: Mapping[str, str], opened: str) -> None:
        summary = self.ledger.summary(self.session)
        if summary is None or any(_is_closed(run) and not _tag(run, UNSENT) for run in runs):
            return
        self._delete(runs)
        content = projection.session_summary(
            summary["table"],
            summary["rows"],
            summary["counts"],
            {name: text.encode() for name, text in summary["further"].items()},
        )
        run_id = self.writer.create(
            experiment_name(common["bob.scale"], "sessions"),
            f"session-{self.session}",
            {**common, "bob.level": "session"},
            ticket=f"{self.session}/session",
            start=milliseconds(opened),
        )
        self.writer.add(run_id, content)
        self.writer.end(run_id, summary["status"])
        self.report.sessions += 1

    def _delete(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self.writer.delete(run.info.run_id)


def _is_closed(run: Run) -> bool:
    """Whether a session's run was ended by the session itself, which is the last thing it does."""
    return run.info.status in (*_ENDED, "KILLED") and not _tag(run, ENDED_BY)


def _lacks(run: Run) -> bool:
    """Whether its store did not take all of a run."""
    return bool(_tag(run, UNSENT) or _tag(run, INCOMPLETE))


def _tag(run: Run, name: str) -> str:
    return str(run.data.tags.get(name, ""))
