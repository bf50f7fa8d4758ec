"""The live record: what a session tells MLflow while it runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob import interrupts
from bob.case import Case, Progress, Verdict
from bob.errors import BobError
from bob.ledger.records import Recorded
from bob.tracking import projection
from bob.tracking.adopting import Adoption
from bob.tracking.destination import Destination, check_reachable
from bob.tracking.leftovers import end_leftovers
from bob.tracking.opening import words_of
from bob.tracking.projection import RunContent, experiment_name
from bob.tracking.recorder import Pair
from bob.tracking.sending import common_tags, send_trials, send_verdict, session_facts
from bob.tracking.writer import Writer, milliseconds_now

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class _Part:
    """A part of a run that the store did not take.

    Attributes:
        at: When it was measured, in milliseconds since 1970; sent twice with it, it stands once.
        problem: What was told of it.
    """

    content: RunContent
    at: int
    problem: str = ""


@dataclass
class Tracker:
    """Writes sessions and cases to one MLflow store.

    A store that stops answering does not stop the tests: ``problems`` says what it did not take,
    which ``bob sync`` sends from the ledger when it is back. A part of a run that it did not take
    is offered once more when the run ends. A run that still lacks one is never called finished, so
    that ``bob sync`` knows it.

    Attributes:
        notes: Lines about runs that other sessions left open.
    """

    store: Destination
    scale: str
    root: Path
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    session_run: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    writer: Writer = field(init=False)
    _adoption: Adoption = field(init=False)
    _failures: int = 0
    _left_out: list[str] = field(default_factory=list)
    _missed: dict[str, list[_Part]] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.writer = Writer(self.store)
        self._adoption = Adoption(self.writer)
        if not self.facts:
            self.facts = session_facts(self.root, self.scale)

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the first use imports MLflow and creates a missing schema."""
        return self.writer.client

    @property
    def remarks(self) -> list[str]:
        """What was put right in the store, and artifacts that it did not take."""
        return [*self.writer.remarks, *self._left_out]

    def start_session(self, tags: Mapping[str, str]) -> None:
        """Open the store (creating its schema) and the session run.

        Raises:
            BobError: The store cannot be used.
        """
        check_reachable(self.store)
        self.writer.settle()
        self.facts |= tags
        try:
            assert self.client  # opened where an interrupt is not held back: nothing is there yet
            with interrupts.held():
                self.session_run = self.writer.create(
                    experiment_name(self.scale, "sessions"),
                    f"session-{self.session}",
                    {**self._common, "bob.level": "session"},
                    ticket=f"{self.session}/session",
                )
        except BobError as error:
            raise BobError(f"{error} Nothing was run.") from error
        except Exception as error:
            raise BobError(
                f"Cannot record to {self.store.uri}: {type(error).__name__}: {error}. "
                "Nothing was run."
            ) from error
        except KeyboardInterrupt:
            self.kill(self.session_run)
            raise
        self._attempt("what killed sessions left open", self._end_leftovers)

    def start_case(self, case: Case, *, role: str, entry: str) -> str | None:
        """Open the run of a case with its tags, parameters and dataset; returns its id.

        Args:
            case: What is about to run.
            role: ``check`` or ``reference``.
            entry: Its name in the ledger.
        """
        run_id: str | None = None
        content = projection.started(case, role=role, entry=entry)

        def start() -> None:
            nonlocal run_id
            run_id = self.writer.create(
                experiment_name(self.scale, case.task),
                projection.run_name(case),
                {**self._common, **content.tags},
                ticket=f"{self.session}/{entry}",
            )

        self._attempt("start of " + case.name, start)
        if run_id is not None:
            self._add(
                run_id,
                "start of " + case.name,
                RunContent(params=content.params, dataset=content.dataset),
            )
        return run_id

    def log_progress(self, run_id: str | None, progress: Progress) -> None:
        """Log the metrics of an epoch that ended, in one batch."""
        if run_id is None or not progress.metrics:
            return
        points = projection.epoch(progress.metrics, progress.epoch + 1)
        self._add(run_id, "epoch metrics", RunContent(metrics=points))

    def finish_case(self, run_id: str | None, recorded: Recorded) -> None:
        """Log final metrics, environment and artifacts, and end the run."""
        case = recorded.result.case
        if run_id is None:
            return

        def finish() -> None:
            content = projection.finished(recorded)
            self._left_out += [f"{case.name}: {text}" for text in content.left_out]
            for part in self._missed.get(run_id, []):
                self.writer.add(run_id, part.content, at=part.at)
            self.writer.add(run_id, content)
            send_trials(self.writer, recorded, run_id, common=self._common)
            self.writer.end(run_id, "FAILED" if recorded.result.failure else "FINISHED")
            self._ended.add(run_id)
            for part in self._missed.pop(run_id, []):
                self.problems.remove(part.problem)

        self._attempt(f"results of {case.name} seed {case.seed}", finish)

    def adopt(self, recorded: Recorded) -> str | None:
        """Find the run of a result of an earlier session, or make it from the ledger.

        Returns:
            Its id; none where the store does not take it, or another process is still writing it.
        """
        run_id: str | None = None

        def adopt() -> None:
            nonlocal run_id
            run_id = self._adoption.adopt(recorded)

        self._attempt(f"earlier result of {recorded.result.case.name}", adopt)
        if run_id is not None:
            self._ended.add(run_id)
        return run_id

    def log_verdict(self, pairs: Sequence[Pair], verdict: Verdict, *, name: str) -> str | None:
        """Log what runs mean: on the run itself, or on a parent of several.

        Returns:
            Id of the run that stands for the case; none where the store did not take it.
        """
        sent = [(run_id, entry) for run_id, entry in pairs if run_id in self._ended and run_id]
        if len(sent) < len(pairs) or not sent:
            return None
        run_ids = [run_id for run_id, _ in sent]
        top: str | None = None

        def send() -> None:
            nonlocal top
            top = self._adoption.standing(run_ids, verdict)
            if top is not None:
                return
            with self._adoption.in_turn(run_ids):
                top = self._adoption.standing(run_ids, verdict)
                if top is None:
                    if len(sent) == 1:
                        self._adoption.stand_alone(run_ids[0])
                    top = send_verdict(self.writer, sent, verdict, name=name, common=self._common)
                    self._adoption.judged(run_ids, top, verdict)

        self._attempt("verdict", send)
        return top

    def drop(self, run_ids: Sequence[str]) -> None:
        """Take runs out that a later evaluation of the same case stands for, and their trials.

        MLflow keeps them in its trash; their results stay in the ledger.
        """

        def drop() -> None:
            for run_id in run_ids:
                self.writer.delete_with_nested(run_id)

        if run_ids:
            self._attempt("an earlier run of the same case", drop)

    def has(self, run_id: str | None) -> bool:
        """Whether the store has taken all of a run's result."""
        return run_id in self._ended

    def kill(self, run_id: str | None) -> None:
        """Mark a run that was interrupted."""
        if run_id is not None:
            self._attempt("interrupt", lambda: self.writer.end(run_id, "KILLED"))

    def finish_session(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        counts: Mapping[str, int],
        status: str,
        *,
        further: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write the summary table to the session run and end it.

        Args:
            table: The table as Markdown.
            rows: The same as records.
            counts: Cases by verdict.
            status: ``FINISHED`` or ``KILLED``.
            further: More files by name, such as a ranking.
        """
        run_id = self.session_run
        if run_id is None:
            return
        if status == "KILLED" or self.problems:
            self._attempt("open runs", self._kill_open)
        if self.writer.doubtful:
            self._attempt("runs made twice", self.writer.drop_twins)

        def finish() -> None:
            content = projection.session_summary(table, rows, counts, further or {})
            self.writer.add(run_id, content)
            self.writer.end(run_id, status)

        self._attempt("session summary", finish)

    def _kill_open(self) -> None:
        """End what an interrupt or a failure left running, known here or not."""
        query = f"tags.`bob.session` = '{self.session}' and attributes.status = 'RUNNING'"
        for run in self.writer.search(list(self.writer.known.values()), query):
            if run.info.run_id != self.session_run:
                self.writer.end(run.info.run_id, "KILLED")

    def page(self, task: str) -> str:
        """Where MLflow's pages compare the cases of a task: a path behind the server's address."""
        experiment = self.writer.known.get(experiment_name(self.scale, task), "")
        cases = "searchFilter=tags.%60bob.level%60%20%3D%20'case'"
        query = f"workflowType=machine_learning&compareRunsMode=CHART&{cases}"
        return f"/#/experiments/{experiment}/runs?{query}"

    @property
    def _common(self) -> dict[str, str]:
        return common_tags(self.session, self.facts)

    def _end_leftovers(self) -> None:
        self.notes = end_leftovers(self.writer, session=self.session)

    def _add(self, run_id: str, what: str, content: RunContent) -> None:
        """Add a part to a run that goes on; one that was not taken is kept for its end."""
        part = _Part(content, milliseconds_now())
        if not self._attempt(what, lambda: self.writer.add(run_id, content, at=part.at)):
            told = self.problems[-1] if self.problems else ""
            self._missed.setdefault(run_id, []).append(replace(part, problem=told))

    def _attempt(self, what: str, action: Callable[[], None]) -> bool:
        """Ask the store, unless it has failed twice in a row, each time after retries.

        What fails here before the store is asked says nothing of the store.

        Returns:
            Whether it has done what it was asked.
        """
        patience = self.writer.patience
        if self._failures >= 2 or patience.over:
            return False
        answered, failed = patience.answered, patience.failed
        with interrupts.held():
            try:
                action()
                if patience.answered > answered:
                    self._failures = 0
                return True
            except Exception as error:
                self.problems.append(f"{what}: {words_of(error)}")
                if patience.failed > failed:
                    self._failures += 1
            if patience.over:
                self.problems.append(f"the store was given up: {patience.why}")
            if self._failures >= 2 or patience.over:
                self.problems.append("from there on nothing more was sent")
        return False
