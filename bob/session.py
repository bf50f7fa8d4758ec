"""One pytest session: options → plan, evaluator and tracker, and their words at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bob.case import Case, Context
from bob.case_limits import (
    check_hours,
    checkpoint_options,
    estimated_need,
    executor_options,
    may_be_written,
    time_limit,
)
from bob.catalog import BackboneEntry, installed_backbones, load_catalog
from bob.errors import BobError, ExecutorLost
from bob.options import OPTIONS
from bob.options.pytest_config import read_options
from bob.options.shell import left_out, repeated_words
from bob.plan import Plan, Selection
from bob.progress import ProgressLine
from bob.protocols.detection import ENGINES
from bob.telling import failure_of

if TYPE_CHECKING:
    import pytest

    from bob.evaluation import Evaluation, Update
    from bob.evaluator import Evaluator
    from bob.executors import Executor, Limit
    from bob.ledger import Ledger
    from bob.references.files import ReferenceStore
    from bob.report.ranking import Ranking
    from bob.reuse import Earlier
    from bob.tracking import Tracker


class BobSession:
    """State of one session. Building it plans; ``start`` opens the record.

    Args:
        config: pytest's configuration.

    Raises:
        BobError: An option, a catalog file or a backbone is wrong.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = read_options(config)
        found: list[list[BackboneEntry]] = config.hook.pytest_bob_backbones(config=config)
        catalog = installed_backbones(load_catalog(self.options.catalogs)).with_backbones(
            entry for entries in found for entry in entries or ()
        )
        self.plan = Plan(catalog, self.options.selection)
        self.progress = ProgressLine(
            config,
            self.options.progress,
            several=self.options.executor != "inline",
            hours=self._hours,
        )
        self.lacking: Mapping[str, str] = {}  # key of a dataset → why it could not be fetched
        self.evaluations: list[Evaluation] = []
        self.warnings: list[str] = []  # that ``start`` has
        self._updates: list[Update] = []
        self._problems: dict[str, str] = {}
        self._summary: dict[str, Any] = {}
        self._evaluator: Evaluator | None = None
        self._tracker: Tracker | None = None
        self._earlier: Earlier | None = None

    @property
    def started(self) -> bool:
        """Whether the record is open."""
        return self._evaluator is not None

    @property
    def evaluator(self) -> Evaluator:
        """The evaluator; only after ``start``."""
        assert self._evaluator is not None, "the battle fixture works on collected tests only"
        return self._evaluator

    @property
    def tracker(self) -> Tracker:
        """The tracker; only after ``start``."""
        assert self._tracker is not None
        return self._tracker

    def header(self) -> str:
        """A line for the head of pytest's report."""
        plan = self.plan
        told = f"bob: scale {plan.scale.key}, {len(plan.backbones)} backbones"
        with suppress(BobError):  # what is wrong with a case is told when it is collected
            told = ", ".join(filter(None, (told, plan.sizes)))
        return told

    def start(self, cases: Iterable[Case]) -> None:
        """Check references and store, open the session run, submit the cases.

        Raises:
            BobError: A reference file is malformed or cannot be written, the cases take longer than
                ``--max-gpu-hours``, or the store cannot be used.
        """
        from bob.executors import make_executor
        from bob.ledger import Ledger
        from bob.references.files import ReferenceStore
        from bob.reuse import Earlier
        from bob.tracking import Tracker, resolve_store
        from bob.tracking.pulling import StoreResults

        cases = list(cases)
        store = ReferenceStore(self.options.references)
        store.check(self.options.scale)
        self._check_folder(store)
        store.check_writable(case for case in cases if may_be_written(self.options, case, store))
        if self.options.max_gpu_hours is not None:
            check_hours(self.options, cases, store, self.config.rootpath)
        executor = make_executor(self.options.executor, executor_options(self.options))
        limit = time_limit(self.options, executor)
        tracker = Tracker(
            resolve_store(self.config.rootpath, self.options.tracking_uri),
            self.options.scale,
            self.config.rootpath,
        )
        ledger = Ledger(tracker.store.ledger)
        try:
            tracker.start_session(self._facts)
            ledger.open_session(tracker.session, tracker.facts)
        except BaseException:  # an interrupt, or a ledger that cannot be written
            tracker.kill(tracker.session_run)
            raise
        self._tracker = tracker
        if self.options.resume:
            self._earlier = Earlier(ledger, elsewhere=StoreResults(tracker.writer, ledger))
        self._evaluator = self._make_evaluator(executor, store, ledger, limit)
        for case in cases:
            self._evaluator.submit(case)

    def _make_evaluator(
        self,
        executor: Executor,
        store: ReferenceStore,
        ledger: Ledger,
        limit: Callable[[Case], Limit | None],
    ) -> Evaluator:
        from bob.evaluation import Bands
        from bob.evaluator import Evaluator
        from bob.reuse import nothing_earlier

        return Evaluator(
            executor=executor,
            context=Context(
                accelerator=self.options.accelerator,
                precision=self.options.precision,
                devices=self.options.devices,
                workers=self.options.workers,
                features=str(self.options.features or ""),
                features_limit=self.options.features_limit,
                **checkpoint_options(self.options, self.tracker.store.ledger),
            ),
            store=store,
            tracker=self.tracker,
            ledger=ledger,
            session=self.tracker.session,
            bands=Bands(self.options.bands),
            seeds=self.options.seeds or 1,
            seeds_given=self.options.seeds is not None,
            same_seed=self.options.repeats_reference,
            require_bands=self.options.require_bands,
            limit=limit,
            need=estimated_need(self.options, executor),
            watch=self.progress,
            lacking=lambda case: self.lacking.get(case.dataset.key, ""),
            earlier=self._earlier or nothing_earlier,
        )

    @property
    def _facts(self) -> dict[str, str]:
        from bob.ledger.records import RESUMED

        options = self.options
        facts = {"bob.bands": options.bands, "bob.base_seed": str(options.base_seed)}
        return {**facts, RESUMED: "true"} if options.resume else facts

    def _hours(self, case: Case) -> float | None:
        from bob.cost.needs import needed

        return needed(case, self.options.reference_gpu).hours

    def _check_folder(self, store: ReferenceStore) -> None:
        """A folder of references that somebody named should be there.

        Raises:
            BobError: It is not, and bands are required.
        """
        usual = next(option.default for option in OPTIONS if option.flag == "--references")
        usual_folder = self.config.rootpath / usual
        if self.options.bands != "check" or store.folder == usual_folder or not store.missing:
            return
        told = f"--references: there is no folder {store.folder}, so that none of its bands holds."
        if self.options.require_bands:
            remedy = "name the folder that has them, or measure them with --bands=new."
            raise BobError(f"{told} Bands are required: {remedy}")
        self.warnings.append(f"{told} Packaged references hold alone.")

    def evaluate(self, case: Case) -> Evaluation:
        """Run and judge a case; of one that is evaluated again the last time counts."""
        try:
            try:
                evaluation = self.evaluator.evaluate(case)
            finally:
                self.progress.clear()
        except (KeyboardInterrupt, SystemExit, GeneratorExit, ExecutorLost):
            raise
        except BaseException as error:
            left = self.evaluator.abandon(failure_of(error))
            if left is not None:
                self._keep(left)
            raise
        self._keep(evaluation)
        return evaluation

    def _keep(self, evaluation: Evaluation) -> None:
        slot = (evaluation.case.id, evaluation.case.backbone.key)
        for earlier in list(self.evaluations):
            if (earlier.case.id, earlier.case.backbone.key) == slot:
                self.evaluations.remove(earlier)
                self.evaluator.drop(earlier, later=evaluation)
        self.evaluations.append(evaluation)
        if evaluation.update is not None:
            self._updates.append(evaluation.update)

    def message(self, evaluation: Evaluation, node: list[str]) -> str:
        """Why a case failed, in a few lines."""
        from bob.report.text import failure_message, repeat_command

        words = repeated_words(self.config)
        command = repeat_command(node, words, backbones=self.options.backbones)
        return failure_message(
            evaluation,
            store=self.tracker.store.uri,
            repeat=command,
            word=left_out(self.config),
        )

    @property
    def finished(self) -> bool:
        """Whether the record was closed."""
        return bool(self._summary)

    @property
    def lost(self) -> list[str]:
        """What could not be kept on disk; the session has failed then, whatever its tests say."""
        problems = list(self.evaluator.keeper.problems)
        for unkept in self.evaluator.keeper.unkept:
            where = (
                f"MLflow has it: run {unkept.run_id}."
                if self.tracker.has(unkept.run_id)
                else "MLflow does not have it either: it is lost, and is to be run again."
            )
            problems.append(f"{unkept.problem} {where}")
        return problems

    def finish(self, *, status: str) -> None:
        """Close the record: summary table into the ledger and the session run.

        Args:
            status: ``FINISHED``, ``KILLED`` where the session was cut short, or ``FAILED``.
        """
        from bob.ledger.plain import jsonable
        from bob.report import text
        from bob.tabular import markdown

        self.evaluator.close(cancel=status != "FINISHED")
        further = self._files()
        lines = text.licence_lines(self.evaluations)
        table = "\n".join([markdown(text.table(self.evaluations)), *lines])
        rows, counts = text.summary_rows(self.evaluations), text.counts(self.evaluations)
        self._summary = {
            "status": status,
            "table": table,
            "rows": jsonable(rows),
            "counts": counts,
            "further": {name: content.decode() for name, content in further.items()},
        }
        self._write_summary()
        self.tracker.finish_session(table, rows, counts, status, further=further)

    def cut_short(self) -> None:
        """An interrupt met the session while it was being closed: it is no finished one."""
        if self._summary.get("status") not in (None, "KILLED"):
            self._summary["status"] = "KILLED"
            self._write_summary()
            self.tracker.kill(self.tracker.session_run)

    def _write_summary(self) -> None:
        if self.evaluator.ledger is None:
            return
        try:
            self.evaluator.ledger.write_summary(self.tracker.session, self._summary)
        except (OSError, TypeError, ValueError) as error:
            self.evaluator.keeper.problems.append(f"summary of the session: {error}")

    def summary(self) -> list[tuple[str, list[str]]]:
        """Sections for the end of pytest's report: title and lines."""
        from bob.report import ranking_text, text
        from bob.report.reused import reused_lines
        from bob.tabular import aligned
        from bob.tracking.words import what_is_missing, where_recorded

        tracker = self.tracker
        sections = []
        lines = aligned(text.table(self.evaluations))
        lines += text.licence_lines(self.evaluations)
        tasks = (evaluation.case.task for evaluation in self.evaluations)
        lines += ["", *where_recorded(tracker, tasks)]
        sections.append((f"battle of the backbones, scale {self.options.scale}", lines))
        ranking = self._ranking()
        if ranking:
            sections.append(("ranking", ranking_text.lines(ranking)))
        if self._earlier is not None:
            found = self._earlier
            earlier = reused_lines(self.evaluations, found.damaged, problems=found.problems)
            sections.append(("results of earlier sessions", earlier))
        if self._updates:
            diff = [line for update in self._updates for line in text.update_lines(update)]
            sections.append(("references written", diff))
        unused = self.evaluator.store.unused(self.options.scale, self._catalog_cases())
        if unused:
            remedy = "No case of the catalog uses these; delete them if they are left over."
            sections.append(("unused references", [*unused, remedy]))
        if tracker.problems:
            missing = what_is_missing(tracker, lost=bool(self.lost))
            sections.append(("not recorded in MLflow", missing))
        remarks = [*tracker.remarks, *self._problems.values()]
        if remarks:
            sections.append(("remarks on the record", remarks))
        if lost := self.lost:
            remedy = "This session has failed for it, whatever its tests say."
            sections.append(("not kept on disk", [*lost, remedy]))
        return sections

    def _ranking(self) -> Ranking | None:
        """The order of the backbones, where the user chose some or the data."""
        from bob.report.of_session import ranking_of

        if not (self.options.backbones or self.options.datasets):
            return None
        try:
            return ranking_of(self.evaluations)
        except Exception as error:  # the record of the session is worth more
            self._problems["ranking"] = f"ranking was left out: {type(error).__name__}: {error}"
            return None

    def _files(self) -> dict[str, bytes]:
        """Ranking and board as files of the session's run."""
        from bob.report.of_session import session_files

        try:
            return session_files(
                self.evaluations, self._ranking(), self.plan.catalog, session=self.tracker.session
            )
        except Exception as error:  # the record of the session is worth more
            self._problems["board"] = f"the board was left out: {type(error).__name__}: {error}"
            return {}

    def _catalog_cases(self) -> Iterator[Case]:
        catalog, scale = self.plan.catalog, self.options.scale
        keys = tuple(key for key, entry in catalog.backbones.items() if scale in entry.scales)
        searched = any(task.grid for task in self.plan.scale.tasks.values())
        for engine in ENGINES:
            for grid in (False, True) if searched else (False,):
                selection = Selection(scale, keys, engine=engine, grid=grid)
                yield from Plan(catalog, selection).all_cases()
        yield from (case for case in self.plan.all_cases() if case.backbone.key not in keys)
