"""Scores from wherever they are: the ledger, references, an MLflow store, an export."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bob.cli.selecting import named_by
from bob.errors import BobError, did_you_mean, unknown

if TYPE_CHECKING:
    from bob.case import DetectionOutcomes, Verdict
    from bob.ledger import Score
    from bob.ledger.score import RunId
    from bob.ledger.units import Units
    from bob.options import Options
    from bob.report.drawn import Drawing

WORDS = ("ledger", "references", "mlflow")
IMPORTED = "imported:"
"""What the name of an import stands behind."""
COMMIT = "mlflow.source.git.commit"


@dataclass
class Gathered:
    """Scores proper of one scale, and what is known besides.

    Attributes:
        scores: A row a seed, of all sessions.
        others: Rows of the other judged metrics, where they were asked for.
        judged: When each backbone and setting was judged last, and how; the ledger alone knows.
        reused: By session, rows of earlier sessions that it took over with ``--resume``; scores
            proper, or those of ``metric``.
        rest: Rows of the metrics that no protocol judges, where they were asked for.
        units: Outcomes per image or query, by ``Score.run``; none come from an MLflow store.
        detections: What average precision is computed from, by ``Score.run``; a ledger's alone.
        metric: What ``scores`` are of where something else than each protocol's score was asked
            for; else empty.
        commits: By session, the commit it ran at, where it is known.
    """

    scores: list[Score] = field(default_factory=list)
    others: list[Score] = field(default_factory=list)
    judged: dict[tuple[str, str], tuple[str, Verdict]] = field(default_factory=dict)
    reused: dict[str, list[Score]] = field(default_factory=dict)
    rest: list[Score] = field(default_factory=list)
    units: dict[RunId, Units] = field(default_factory=dict)
    detections: dict[RunId, DetectionOutcomes] = field(default_factory=dict)
    metric: str = ""
    commits: dict[str, str] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """The newest verdict of each backbone and setting."""
        return {key: verdict for key, (_, verdict) in self.judged.items()}

    @cached_property
    def drawing(self) -> Drawing:
        """Where scores that are no mean over images are drawn; asked for when all is gathered."""
        from bob.report.drawn import Drawing

        return Drawing(self.detections)

    def choose(self, metric: str) -> None:
        """Put the rows of a judged metric in the place of scores proper; of none where empty."""
        self.metric = metric
        if metric:
            self.scores = [row for row in (*self.scores, *self.others) if row.metric == metric]
        for session, rows in self.reused.items():
            self.reused[session] = [
                row for row in rows if (row.metric == metric if metric else row.is_score)
            ]

    def judge(self, key: tuple[str, str], time: str, verdict: Verdict) -> None:
        """Take a verdict in; of several on one case the newest holds."""
        if key not in self.judged or self.judged[key][0] <= time:
            self.judged[key] = time, verdict

    def take(self, rows: Iterable[Score]) -> None:
        """Take rows of every metric in."""
        for row in rows:
            if row.is_score:
                self.scores.append(row)
            elif row.unit:
                self.others.append(row)
            else:
                self.rest.append(row)

    def add(self, other: Gathered) -> None:
        """Take another source in."""
        self.scores += other.scores
        self.others += other.others
        self.reused |= other.reused
        for key, (time, verdict) in other.judged.items():
            self.judge(key, time, verdict)
        self.rest += other.rest
        self.units |= other.units
        self.detections |= other.detections
        self.commits |= other.commits


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add ``--from`` and ``-k`` to a command."""
    parser.add_argument(
        "--from", dest="sources", action="append", default=[], metavar="SOURCE",
        help="where scores are read: ledger (of mlruns, the default), references, mlflow (the "
        "store of --tracking-uri), the address of another store, the folder of another ledger or "
        "of an export, or imported:NAME; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "-k", dest="words", default="", metavar="WORDS",
        help="only settings whose task[backbone-dataset] has these, as in pytest",
    )  # fmt: skip


def gather(
    sources: Sequence[str], options: Options, *, every_metric: bool = False, metric: str = ""
) -> Gathered:
    """Scores of the scale of the options.

    Args:
        sources: As of ``--from``; the ledger where there is none.
        options: Of the command.
        every_metric: Whether the other metrics are wanted too.
        metric: A judged metric that is wanted instead of each protocol's score.

    Raises:
        BobError: A source is not known, is not there, or cannot be read.
    """
    found = Gathered()
    for source in sources or ("ledger",):
        found.add(of_source(source, options))
    found.choose(metric)
    if not every_metric:
        found.others.clear()
        found.rest.clear()
    return found


def of_source(source: str, options: Options) -> Gathered:
    """Scores of one source; see ``gather``."""
    if source == "references":
        return _of_references(options)
    if source == "mlflow" or "://" in source:
        return _of_store(options.tracking_uri if source == "mlflow" else source, options)
    if source == "ledger":
        from bob.tracking.destination import resolve_store

        return _of_ledger(resolve_store(Path.cwd(), options.tracking_uri).ledger, options)
    if source.startswith(IMPORTED):
        from bob.exchange.imports import folder_of

        return _of_export(folder_of(source, Path.cwd()), options)
    path = Path(source)
    if not source or not path.is_dir():
        near = did_you_mean(source, (*WORDS, IMPORTED))
        raise BobError(
            f"--from {source}: there is no such folder. Name ledger, references, mlflow, the "
            f"address of a store, the folder of a ledger or an export, or imported:NAME. "
            f"{near}".strip()
        )
    return _of_export(path, options) if _is_export(path) else _of_ledger(path, options)


def is_source(text: str) -> bool:
    """Whether a word names a source rather than a backbone, session or commit."""
    return text in WORDS or "://" in text or text.startswith(IMPORTED) or Path(text).is_dir()


def _is_export(folder: Path) -> bool:
    return (folder / "scores.parquet").is_file()


def _of_export(folder: Path, options: Options) -> Gathered:
    """The rows of an export that are of the scale, and published scores, which are of none."""
    from bob.exchange.bundle import read_bundle
    from bob.ledger.score import PUBLISHED

    bundle = read_bundle(folder)
    rows = [
        replace(row, scale=options.scale) if row.role == PUBLISHED else row
        for row in bundle.scores
        if row.scale == options.scale or row.role == PUBLISHED
    ]
    runs = {row.run for row in rows}
    found = Gathered(units={run: units for run, units in bundle.units.items() if run in runs})
    found.take(rows)
    return found


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is kept of a result of a ledger, without its outcomes.

    Attributes:
        key: Backbone and setting.
        judged: Its rows of judged metrics.
    """

    session: str
    key: tuple[str, str]
    time: str
    judged: list[Score]


def _of_ledger(root: Path, options: Options) -> Gathered:
    from bob.ledger import Ledger, detections_of, units_of
    from bob.ledger.records import superseded
    from bob.ledger.score import score_rows

    if (root / "session.json").is_file():
        return _of_session(root, options)
    if (root / "ledger").is_dir():  # the folder mlruns
        root = root / "ledger"
    ledger = Ledger(root)
    found = Gathered()
    runs: dict[str, _Run] = {}
    for session in ledger.sessions():
        entries = list(ledger.entries(session))
        judgements = list(ledger.verdicts(session))
        gone = superseded(entries, judgements)
        kept = [
            entry
            for entry in entries
            if entry.entry not in gone and entry.result.case.scale == options.scale
        ]
        for entry in kept:
            rows = list(score_rows(entry))
            found.take(rows)
            runs[f"{session}/{entry.entry}"] = _Run(
                session=session,
                key=(entry.result.case.backbone.key, entry.result.case.setting),
                time=entry.time,
                judged=[row for row in rows if row.unit],
            )
        found.units |= units_of(kept)
        found.detections |= detections_of(kept)
        found.commits[session] = ledger.facts(session)[0].get(COMMIT, "")
        for judgement in judgements:
            names = ["/".join(judgement.session_and_entry(name)) for name in judgement.entries]
            own = [runs[name] for name in names if name in runs]
            if own and judgement.role == "check":
                found.judge(own[0].key, max(run.time for run in own), judgement.verdict)
            taken = [row for run in own if run.session != session for row in run.judged]
            found.reused.setdefault(session, []).extend(taken)
    for damage in ledger.damaged:
        print(f"bob: left out: {damage}", file=sys.stderr)
    return found


def _of_session(folder: Path, options: Options) -> Gathered:
    """One session's folder of a ledger."""
    whole = _of_ledger(folder.parent, options)
    whole.scores = [score for score in whole.scores if score.session == folder.name]
    return whole


def _of_references(options: Options) -> Gathered:
    from bob.references.files import ReferenceStore
    from bob.report.sources import scores_of_references, units_of_references

    store = ReferenceStore(options.references)
    found = Gathered(units=units_of_references(store, options.scale))
    found.take(scores_of_references(store, options.scale))
    return found


def _of_store(uri: str | None, options: Options) -> Gathered:
    from bob.tracking.destination import resolve_store
    from bob.tracking.read import scores_of_store
    from bob.tracking.readable import readable
    from bob.tracking.writer import Writer

    found = Gathered()
    with readable(resolve_store(Path.cwd(), uri)) as store:
        found.take(scores_of_store(Writer(store), scale=options.scale))
    return found


def chosen(rows: Sequence[Score], words: str) -> list[Score]:
    """Rows whose ``task[backbone-dataset]`` pytest's ``-k`` would choose."""
    has = named_by(words)
    return [row for row in rows if has(row.case_name.lower())]


def asked_for(args: argparse.Namespace, scores: Sequence[Score], scale: str) -> list[Score]:
    """The rows of the backbones and settings that a command names.

    Args:
        args: With ``backbones``, ``words`` and ``sources``.
        scores: Of the scale.
        scale: Its name.

    Raises:
        BobError: A backbone was not measured, or there is no such row.
    """
    rows = chosen(scores, args.words)
    known = {row.backbone for row in rows}
    for name in args.backbones:
        if name not in known:
            raise unknown("measured backbone", name, known)
    if args.backbones:
        rows = [row for row in rows if row.backbone in args.backbones]
    if not rows:
        words = f" and {args.words!r} in its name" if args.words else ""
        raise BobError(
            f"There is no score of scale {scale!r}{words} in "
            f"{', '.join(args.sources or ['the ledger'])}. Run the suite first, or name another "
            "source with --from."
        )
    return rows


def margins(options: Options, metric: str = "") -> Mapping[str, float]:
    """The least difference that matters at a scale, by task; of its score, or of a metric."""
    from bob.catalog import load_catalog
    from bob.protocols import PROTOCOLS

    catalog = load_catalog(options.catalogs)
    scale = catalog.scale(options.scale)
    return {
        task: catalog.margins_of(task, plan).get(metric or PROTOCOLS[task].metric, 0.0)
        for task, plan in scale.tasks.items()
    }
