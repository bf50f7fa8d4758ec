"""``bob report``: the board of what has been run, as a page and as tables."""

from __future__ import annotations

import argparse
import shlex
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob.cli.gathering import Gathered, add_sources, asked_for, chosen, gather, margins
from bob.errors import BobError, unknown
from bob.options.arguments import add_arguments, read_arguments

if TYPE_CHECKING:
    from bob.ledger import Score
    from bob.options import Options
    from bob.report.board import Board
    from bob.report.history import History
    from bob.report.page import PretrainingPair
    from bob.report.sources import Drift

FORMS = (".html", ".md", ".csv", ".parquet")


def add_command(commands: Any) -> None:
    """Add ``bob report`` to the subcommands."""
    parser = commands.add_parser(
        "report", help="the board: which backbone is best, where, and how sure that is",
        description="Writes one page that needs nothing else (bob-report.html), or what the ending "
        "of --output says. Nothing runs: scores are what the ledger holds, or the sources of "
        "--from.",
    )  # fmt: skip
    parser.add_argument("backbones", nargs="*", help="only these; all by default")
    add_arguments(parser, "report")
    add_sources(parser)
    parser.add_argument(
        "-o", "--output", type=Path, action="append", metavar="FILE",
        help=f"where to, with one of the endings {', '.join(FORMS)}; repeatable; - prints "
        "Markdown (bob-report.html)",
    )  # fmt: skip
    parser.add_argument("--title", default="", help="heading of the page")
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    options = read_arguments(args)
    outputs = args.output or [Path("bob-report.html")]
    for path in outputs:
        if path.suffix not in FORMS and str(path) != "-":
            raise unknown("ending of --output", path.suffix or str(path), FORMS)
    gathered = gather(args.sources, options, every_metric=True)
    board, scores = _board(args, gathered, options)
    title = args.title or f"Battle of the backbones: {board.scale}"
    for path in outputs:
        if str(path) == "-":
            from bob.report.board_files import markdown_text

            print(markdown_text(board, title=title), end="")
            continue
        _write(path, board, scores, gathered, title, args, options)
        size = path.stat().st_size
        print(
            f"{path}: {len(board.rows)} backbones ranked, {len(board.incomplete)} incomplete, "
            f"{len(board.settings)} settings, {size / 1024:.0f} KiB",
            file=sys.stderr,
        )
    return 0


def _board(args: argparse.Namespace, gathered: Gathered, options: Any) -> tuple[Board, list[Score]]:
    from bob.catalog import load_catalog
    from bob.report.board import make_board
    from bob.report.facts import facts_of
    from bob.report.published import published_remarks
    from bob.report.sources import current

    asked = asked_for(args, gathered.scores, options.scale)
    rows = current(asked)
    keys = {(row.backbone, row.setting, row.seed) for row in rows}
    others = [
        row for row in current(gathered.others) if (row.backbone, row.setting, row.seed) in keys
    ]
    board = make_board(
        rows,
        scale=options.scale,
        units=gathered.units,
        facts=facts_of(load_catalog(options.catalogs), rows),
        verdicts=gathered.verdicts,
        others=others,
        drawing=gathered.drawing,
        published=published_remarks(asked, rows),
    )
    return board, rows


def _write(
    path: Path, board: Board, scores: list[Score], gathered: Gathered, title: str,
    args: argparse.Namespace, options: Options,
) -> None:  # fmt: skip
    from bob.report import board_files
    from bob.report.page import page

    if path.suffix == ".parquet":
        board_files.write_parquet(board, path)
        return
    if path.suffix == ".html":
        sources = ", ".join(args.sources or ["ledger"])
        content = page(
            board,
            title=title,
            subtitle=f"{len(scores)} scores from {sources}",
            command=shlex.join(["bob", *sys.argv[1:]]) if sys.argv[1:] else "",
            pretraining=_pretraining(board, scores, gathered),
            history=_history(args, gathered, board, options),
            drifts=_drifts(args, board, options),
        ).encode()
    elif path.suffix == ".md":
        content = board_files.markdown_text(board, title=title).encode()
    else:
        content = board_files.csv_table(board)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BobError(f"Cannot write {path} ({error.strerror or error}).") from None


def _history(
    args: argparse.Namespace, gathered: Gathered, board: Board, options: Options
) -> list[History]:
    """Scores over sessions of the backbones that the board has."""
    from bob.report.history import histories

    least = margins(options)
    rows = chosen(gathered.scores, args.words)
    return histories(
        [row for row in rows if row.backbone in board.facts and row.role == "check"],
        commits=gathered.commits,
        margin=lambda score: least.get(score.task, 0.0),
    )


def _drifts(args: argparse.Namespace, board: Board, options: Options) -> list[Drift]:
    """Of the references that the board shows, the largest losses first."""
    from bob.references.files import ReferenceStore
    from bob.report.sources import drifts

    if "references" not in args.sources:
        return []
    found = [
        drift
        for drift in drifts(ReferenceStore(options.references), options.scale)
        if drift.backbone in board.cells.get(drift.setting, {})
    ]
    return sorted(found, key=lambda drift: (not drift.worse, -abs(drift.now - drift.then)))


def _pretraining(board: Board, scores: list[Score], gathered: Gathered) -> list[PretrainingPair]:
    """Weights of the same architecture against each other."""
    from bob.report.comparison import compare
    from bob.report.page import PretrainingPair
    from bob.report.sides import sides

    families: dict[str, list[str]] = {}
    for key, facts in sorted(board.facts.items()):
        if facts.architecture:
            families.setdefault(facts.architecture, []).append(key)
    found: list[PretrainingPair] = []
    for architecture, keys in families.items():
        keys.sort(key=lambda key: (board.facts[key].pretraining != "random", key))
        for before, after in combinations(keys, 2):
            both = sides(
                [row for row in scores if row.backbone == before],
                [row for row in scores if row.backbone == after],
                units=gathered.units, same_backbones=False, delta=lambda score: 0.0,
                drawing=gathered.drawing,
            )  # fmt: skip
            compared = compare(both.pairs) if both.pairs else None
            if compared is None or compared.overall is None:
                continue
            found.append(
                PretrainingPair(
                    architecture=architecture,
                    before=before,
                    after=after,
                    overall=compared.overall,
                    settings=len(compared.contrasts),
                )
            )
    return found
