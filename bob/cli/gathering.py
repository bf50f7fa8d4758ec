"""Scores from wherever they are: the ledger, references, an MLflow store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bob.errors import BobError, did_you_mean

if TYPE_CHECKING:
    from bob.ledger import Score
    from bob.ledger.score import RunId
    from bob.ledger.units import Units
    from bob.options import Options

WORDS = ("ledger", "references", "mlflow")
COMMIT = "mlflow.source.git.commit"


@dataclass
class Gathered:
    """Scores proper of one scale, and what is known besides.

    Attributes:
        scores: A row a seed, of all sessions.
        units: Outcomes per image or query, by ``Score.run``; none come from an MLflow store.
        commits: By session, the commit it ran at, where it is known.
    """

    scores: list[Score] = field(default_factory=list)
    units: dict[RunId, Units] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)

    def add(self, other: Gathered) -> None:
        """Take another source in."""
        self.scores += other.scores
        self.units |= other.units
        self.commits |= other.commits


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add ``--from`` to a command."""
    parser.add_argument(
        "--from", dest="sources", action="append", default=[], metavar="SOURCE",
        help="where scores are read: ledger (of mlruns, the default), references, mlflow (the "
        "store of --tracking-uri), the address of another store, or the folder of another ledger; "
        "repeatable",
    )  # fmt: skip


def gather(sources: Sequence[str], options: Options) -> Gathered:
    """Scores of the scale of the options.

    Args:
        sources: As of ``--from``; the ledger where there is none.
        options: Of the command.

    Raises:
        BobError: A source is not known, is not there, or cannot be read.
    """
    found = Gathered()
    for source in sources or ("ledger",):
        found.add(of_source(source, options))
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
    path = Path(source)
    if not path.is_dir():
        near = did_you_mean(source, WORDS)
        raise BobError(
            f"--from {source}: there is no such folder. Name ledger, references, mlflow, the "
            f"address of a store or the folder of a ledger. {near}".strip()
        )
    return _of_ledger(path, options)


def _of_ledger(root: Path, options: Options) -> Gathered:
    from bob.ledger import Ledger, best_scores, units_of
    from bob.ledger.records import superseded
    from bob.ledger.score import score_rows

    if (root / "session.json").is_file():
        return _of_session(root, options)
    ledger = Ledger(root)
    found = Gathered()
    for session in ledger.sessions():
        entries = list(ledger.entries(session))
        gone = superseded(entries, ledger.verdicts(session))
        kept = [
            entry
            for entry in entries
            if entry.entry not in gone and entry.result.case.scale == options.scale
        ]
        found.scores += best_scores(row for entry in kept for row in score_rows(entry))
        found.units |= units_of(kept)
        found.commits[session] = ledger.facts(session)[0].get(COMMIT, "")
    for damage in ledger.damaged:
        print(f"bob: left out: {damage}", file=sys.stderr)
    return found


def _of_session(folder: Path, options: Options) -> Gathered:
    """One session's folder of a ledger."""
    whole = _of_ledger(folder.parent, options)
    whole.scores = [score for score in whole.scores if score.session == folder.name]
    return whole


def _of_references(options: Options) -> Gathered:
    from bob.ledger import best_scores
    from bob.references.files import ReferenceStore
    from bob.report.sources import scores_of_references, units_of_references

    store = ReferenceStore(options.references)
    return Gathered(
        scores=best_scores(scores_of_references(store, options.scale)),
        units=units_of_references(store, options.scale),
    )


def _of_store(uri: str | None, options: Options) -> Gathered:
    from bob.ledger import best_scores
    from bob.tracking.destination import check_reachable, resolve_store
    from bob.tracking.read import scores_of_store
    from bob.tracking.writer import Writer

    store = resolve_store(Path.cwd(), uri)
    check_reachable(store)
    return Gathered(scores=best_scores(scores_of_store(Writer(store), scale=options.scale)))


def margins(options: Options) -> Mapping[str, float]:
    """The least difference of a score that matters at a scale, by task."""
    from bob.catalog import load_catalog
    from bob.protocols import PROTOCOLS

    catalog = load_catalog(options.catalogs)
    scale = catalog.scale(options.scale)
    return {
        task: catalog.margins_of(task, plan).get(PROTOCOLS[task].metric, 0.0)
        for task, plan in scale.tasks.items()
    }
