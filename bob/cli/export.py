"""``bob export``: what was run as tables and metadata for others."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bob.cli.gathering import Gathered, add_sources, asked_for, gather
from bob.errors import BobError, unknown
from bob.options.arguments import add_arguments, read_arguments

if TYPE_CHECKING:
    from bob.exchange.contents import Asker, Benchmark, Contents
    from bob.ledger import Score

TABLES, MODEL_INDEX, EVAL_RESULTS, EVERY = (
    "tables", "model-index", "eval-results", "every-eval-ever",
)  # fmt: skip


def add_command(commands: Any) -> None:
    """Add ``bob export`` to the subcommands."""
    parser = commands.add_parser(
        "export", help="what was run as Parquet with metadata, or as files for model hubs",
        description="Writes every value of every metric, outcomes per image or query, a data card "
        "and Croissant metadata into a new folder, or what --format says. `bob import` reads the "
        "tables back. What nobody said is left out.",
    )  # fmt: skip
    parser.add_argument("backbones", nargs="*", help="only these; all by default")
    add_arguments(parser, "export")
    add_sources(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER",
        help="where to: a folder that is empty or not there yet",
    )  # fmt: skip
    parser.add_argument(
        "--format", dest="formats", action="append", default=[],
        choices=(TABLES, MODEL_INDEX, EVAL_RESULTS, EVERY),
        help="tables (the default), a card with model-index for each backbone, .eval_results of "
        "the Hugging Face hub, or records of Every Eval Ever; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--no-outcomes", action="store_true", help="leave out outcomes per image and query"
    )
    parser.add_argument("--licence", default="", help="licence of these results")
    parser.add_argument("--creator", default="", metavar="NAME", help="who made these results")
    parser.add_argument(
        "--developer", default="", metavar="NAME",
        help="who made the backbones that the catalog does not place on the hub (unknown)",
    )  # fmt: skip
    parser.add_argument("--url", default="", help="where these results are published")
    parser.add_argument(
        "--benchmark", dest="benchmarks", action="append", default=[], type=_benchmark,
        metavar="SETTING=OWNER/NAME[:TASK]",
        help="which benchmark of the Hugging Face hub a setting (task/dataset) or a dataset is, "
        "and which of its tasks; repeatable",
    )  # fmt: skip
    parser.set_defaults(run=_export)


def _benchmark(text: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"([^=]+)=([\w.-]+/[\w.-]+)(?::(\S+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: write knn/digits=OWNER/NAME:TASK")
    return found[1], found[2], found[3] or ""


def _export(args: argparse.Namespace) -> int:
    options = read_arguments(args)
    formats = dict.fromkeys(args.formats or [TABLES])
    if EVERY in formats and not args.creator:
        raise BobError(f"--format {EVERY}: its schema asks who made the results; name --creator.")
    gathered = gather(args.sources, options, every_metric=True)
    rows = asked_for(args, [*gathered.scores, *gathered.others, *gathered.rest], options.scale)
    told, asker = _told(args, rows, options)
    files = list(_files(formats, told, asker))
    folder: Path = args.output
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BobError(f"{folder} is not an empty folder: name a new one with --output.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".exporting-", dir=folder.parent) as beside:
            made = Path(beside) / "export"
            made.mkdir()
            if TABLES in formats:
                _write_tables(made, rows, gathered, told, asker, outcomes=not args.no_outcomes)
            for name, text in files:
                _write(made / name, text)
            # one that is there and empty gives way
            made.rename(folder)
    except OSError as error:
        raise BobError(f"Cannot write {folder} ({error.strerror or error}).") from None
    backbones = len({row.backbone for row in rows})
    print(f"{folder}: {len(rows)} rows of {backbones} backbones", file=sys.stderr)
    return 0


def _told(args: argparse.Namespace, rows: list[Score], options: Any) -> tuple[Contents, Asker]:
    from bob.catalog import load_catalog
    from bob.exchange.contents import Asker, Benchmark, contents
    from bob.report.sources import current

    known = {name for row in rows for name in (row.setting, row.dataset)}
    benchmarks: dict[str, Benchmark] = {}
    for name, hub, task in args.benchmarks:
        if name not in known:
            raise unknown("setting or dataset", name, known, hint="--benchmark names one.")
        benchmarks[name] = Benchmark(id=hub, task=task)
    told = contents(
        current(row for row in rows if row.unit),
        rows,
        scale=options.scale,
        catalog=load_catalog(options.catalogs),
    )
    asker = Asker(
        licence=args.licence, creator=args.creator, developer=args.developer, url=args.url,
        benchmarks=benchmarks,
    )  # fmt: skip
    return told, asker


def _write_tables(
    folder: Path, rows: list[Score], gathered: Gathered, told: Contents, asker: Asker, *,
    outcomes: bool,
) -> None:  # fmt: skip
    from bob.exchange.bundle import bundle_of, write_bundle
    from bob.exchange.croissant import CROISSANT_FILE, croissant
    from bob.exchange.data_card import data_card
    from bob.ledger.score import PUBLISHED

    # a published score is of no scale; one was lent to it so that it stands beside others
    plain = [replace(row, scale="") if row.role == PUBLISHED else row for row in rows]
    bundle = bundle_of(plain, gathered.units)
    files = write_bundle(folder, bundle, outcomes=outcomes)
    card = data_card(bundle, told, asker, files=files)
    _write(folder / "README.md", card)
    metadata = croissant(folder, told, asker, files=files)
    _write(folder / CROISSANT_FILE, metadata)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _files(formats: dict[str, None], told: Contents, asker: Asker) -> Iterator[tuple[str, str]]:
    """Names below the folder and texts of the files that are one a backbone."""
    from bob.exchange import eval_results, every_eval_ever, model_index
    from bob.hashing import own_file_name

    if set(formats) - {TABLES} and not told.cells:
        raise BobError(
            "Nothing was measured here: published scores are left to who published them."
        )
    told_any = False
    for backbone in told.cells:
        name = own_file_name(backbone)
        if MODEL_INDEX in formats:
            yield f"{MODEL_INDEX}/{name}.md", model_index.model_index(told, backbone, asker)
        if EVAL_RESULTS in formats:
            for file, text in eval_results.eval_results(told, backbone, asker):
                told_any = True
                yield f"{EVAL_RESULTS}/{name}/.eval_results/{file}", text
        if EVERY in formats:
            path, text = every_eval_ever.record(told, backbone, asker, now=int(time.time()))
            yield f"{EVERY}/{path}", text
    if EVAL_RESULTS in formats and not told_any:
        raise BobError(
            f"--format {EVAL_RESULTS}: no score is of a benchmark of the hub. Say which setting is "
            "one, and the benchmark's task: --benchmark knn/digits=OWNER/NAME:TASK."
        )
