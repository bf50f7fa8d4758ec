"""Sending what an MLflow store does not have yet, from the ledger: every case exactly once.

What is there is found by its tags, not by a note of what was sent, so that a second run sends
nothing, whichever store it is asked for, and one that was killed half-way is made good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from bob.errors import BobError
from bob.ledger.ledger import Ledger
from bob.ledger.records import RESUMED, Judgement, Recorded, superseded
from bob.tracking import projection
from bob.tracking.adopting import Adoption
from bob.tracking.leftovers import ENDED_BY, end_leftovers
from bob.tracking.process import is_alive_elsewhere
from bob.tracking.projection import experiment_name
from bob.tracking.sending import (
    ENDED,
    Sent,
    common_tags,
    is_whole,
    lacks,
    milliseconds,
    raise_up,
    send_result,
    send_verdict,
    tag,
)
from bob.tracking.writer import UNSENT, Writer

if TYPE_CHECKING:
    from mlflow.entities import Run


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
    everything = _Everything(ledger, writer, report)
    for session in sessions or ledger.sessions():
        everything.session(session)
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
            "What was sent is there. Run this again when it takes them; nothing is sent twice."
        ) from error


@dataclass
class _Everything:
    """The sessions of a ledger on their way into a store, each once."""

    ledger: Ledger
    writer: Writer
    report: Report
    adoption: Adoption = field(init=False)
    _sessions: dict[str, _Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.adoption = Adoption(self.writer)

    def session(self, name: str) -> _Session:
        """A session, which is sent when it is first asked for."""
        if name not in self._sessions:
            with _taking(self.writer, f"session {name}"):
                self._sessions[name] = _Session(self, name)
                self._sessions[name].send()
        return self._sessions[name]

    @cached_property
    def reusing(self) -> list[tuple[str, frozenset[str]]]:
        """Verdicts that rest on results of earlier sessions: their session, and all they rest on.

        The newest session comes last.
        """
        found = []
        for session in self.ledger.sessions():
            if self.ledger.facts(session)[0].get(RESUMED):
                for judgement in self.ledger.verdicts(session):
                    entries = frozenset(map(judgement.session_and_entry, judgement.entries))
                    if any(each[0] != session for each in entries):
                        found.append((session, frozenset("/".join(each) for each in entries)))
        return found

    def taken_over(self, judgement: Judgement) -> set[str]:
        """Results of a verdict that later sessions have judged anew, and not over fewer alone.

        They are named as in ``judgement.entries``.
        """
        own = {"/".join(judgement.session_and_entry(name)): name for name in judgement.entries}
        last = max(
            (place for place, (name, _) in enumerate(self.reusing) if name == judgement.session),
            default=-1,
        )
        return {
            own[name]
            for session, entries in self.reusing[last + 1 :]
            if session != judgement.session and not entries < own.keys()
            for name in entries & own.keys()
        }


@dataclass
class _Session:
    everything: _Everything
    session: str
    runs: dict[str, str] = field(default_factory=dict)
    entries: dict[str, Recorded] = field(default_factory=dict)
    found: list[Run] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.everything.ledger

    @property
    def writer(self) -> Writer:
        return self.everything.writer

    @property
    def report(self) -> Report:
        return self.everything.report

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
        found = self.found = self.writer.runs(self.session, sorted({*names, sessions}))
        self.entries = {entry.entry: entry for entry in entries}
        if any(run.info.status == "RUNNING" and is_alive_elsewhere(run.data.tags) for run in found):
            self.report.running.append(self.session)
            return
        self._results(entries, found, common)
        self._verdicts(found, common)
        self._summary([run for run in found if tag(run, "bob.level") == "session"], common, opened)
        self.writer.drop_twins()

    def _results(
        self, entries: Sequence[Recorded], found: Sequence[Run], common: Mapping[str, str]
    ) -> None:
        there: dict[str, list[Run]] = {}
        for run in found:
            if tag(run, "bob.role") in ("check", "reference") and tag(run, "bob.entry"):
                there.setdefault(tag(run, "bob.entry"), []).append(run)
        children: dict[str, list[Run]] = {}
        for run in found:
            if tag(run, "bob.role") == "trial":
                children.setdefault(tag(run, "mlflow.parentRunId"), []).append(run)
        gone = superseded(entries, self.ledger.verdicts(self.session))
        for name in gone:
            for run in there.get(name, ()):
                self._delete([*children.get(run.info.run_id, ()), run])
        for entry in (entry for entry in entries if entry.entry not in gone):
            runs = there.get(entry.entry, [])
            whole = [
                run
                for run in runs
                if is_whole(run, entry, trials=len(children.get(run.info.run_id, ())))
            ]
            for run in runs:
                if run not in whole[:1]:
                    self._delete([*children.get(run.info.run_id, ()), run])
            if whole:
                self.runs[entry.entry] = whole[0].info.run_id
                self.report.present += 1
                continue
            self.runs[entry.entry] = send_result(self.writer, entry, common=common)
            if runs:
                self.report.mended += 1
            else:
                self.report.sent += 1

    def _verdicts(self, found: Sequence[Run], common: Mapping[str, str]) -> None:
        parents: dict[str, list[Run]] = {}
        for run in found:
            if tag(run, "bob.verdict_name"):
                parents.setdefault(tag(run, "bob.verdict_name"), []).append(run)
        for judgement in self.ledger.verdicts(self.session):
            sent, by_id = self._behind(judgement)
            if not sent:
                continue  # a result of it was damaged, which the ledger names
            above = parents.get(judgement.name, [])
            gone = self.everything.taken_over(judgement)
            if gone == set(judgement.entries):
                self._delete([run for run in above if not self._below(run)])
                continue
            names = zip(judgement.entries, sent, strict=True)
            left = [pair for name, pair in names if name not in gone]
            whole = [run for run in above if self._is_judged(judgement, left, by_id, run)]
            for run in above:
                if run not in whole[:1]:
                    self._delete([run])
            if whole or (len(sent) == 1 and self._is_judged(judgement, sent, by_id, None)):
                continue
            if all("/" in name for name in judgement.entries) and self._stands(judgement, sent):
                continue
            single = by_id.get(sent[0][0])
            if len(sent) == 1 and single is not None and tag(single, "mlflow.parentRunId"):
                raise_up(self.writer, single.info.run_id)
            send_verdict(
                self.writer,
                sent,
                judgement.verdict,
                name=judgement.name,
                common=common,
                told=single.data.metrics if single else (),
            )
            self.report.verdicts += 1

    def _behind(self, judgement: Judgement) -> tuple[list[Sent], dict[str, Run]]:
        """The runs that a verdict rests on, and those found in the store by id.

        Nothing where one of them is not there.
        """
        sent: list[Sent] = []
        by_id: dict[str, Run] = {}
        for name in judgement.entries:
            session, entry = judgement.session_and_entry(name)
            of = self if session == self.session else self.everything.session(session)
            if entry not in of.runs:
                return [], {}
            sent.append((of.runs[entry], of.entries[entry]))
            by_id |= {run.info.run_id: run for run in of.found}
        return sent, by_id

    def _below(self, parent: Run) -> list[Run]:
        query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        return self.writer.search([parent.info.experiment_id], query)

    def _stands(self, judgement: Judgement, sent: Sequence[Sent]) -> bool:
        """Whether runs of earlier sessions say what a verdict says, or stand under more seeds."""
        adoption = self.everything.adoption
        found = [adoption.adopt(recorded) for _, recorded in sent]
        run_ids = [run_id for run_id in found if run_id is not None]
        return (
            len(run_ids) == len(sent) and adoption.standing(run_ids, judgement.verdict) is not None
        )

    @staticmethod
    def _is_judged(
        judgement: Judgement, sent: Sequence[Sent], runs: Mapping[str, Run], parent: Run | None
    ) -> bool:
        status = judgement.verdict.status.value
        for run_id, _ in sent:
            run = runs.get(run_id)
            if run is None or tag(run, "bob.verdict") != status:
                return False
            if parent is not None and tag(run, "mlflow.parentRunId") != parent.info.run_id:
                return False
        return parent is None or (parent.info.status in ENDED and not lacks(parent))

    def _summary(self, runs: Sequence[Run], common: Mapping[str, str], opened: str) -> None:
        summary = self.ledger.summary(self.session)
        if summary is None or any(_is_closed(run) and not tag(run, UNSENT) for run in runs):
            return
        self._delete(runs)
        content = projection.session_summary(
            summary["table"],
            summary["rows"],
            summary["counts"],
            {name: text.encode() for name, text in summary.get("further", {}).items()},
        )
        run_id = self.writer.create(
            experiment_name(common.get("bob.scale", ""), "sessions"),
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
    return run.info.status in (*ENDED, "KILLED") and not tag(run, ENDED_BY)
