"""``bob import``: an export, or a table that others published, for ``--from imported:NAME``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bob.options.arguments import add_arguments, read_arguments


def add_command(commands: Any) -> None:
    """Add ``bob import`` to the subcommands."""
    parser = commands.add_parser(
        "import", help="results of others: an export, or a published table",
        description="Reads a folder of `bob export`, a table results-*.csv of timm, VisBench's "
        "records visbench.jsonl, or a CSV file with a score a row, into mlruns/imported/NAME. "
        "`--from imported:NAME` reads it then. Nothing of a file is taken where a row is wrong.",
    )  # fmt: skip
    parser.add_argument("path", type=Path, help="folder of an export, CSV file, or JSONL file")
    add_arguments(parser, "import")
    parser.add_argument(
        "--as", dest="name", default="", metavar="NAME",
        help="what it is called (the name of the folder or file)",
    )  # fmt: skip
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    from bob.catalog import load_catalog
    from bob.exchange.imports import PREFIX, import_path
    from bob.shown import line

    options = read_arguments(args)
    found = import_path(
        args.path, name=args.name, catalog=load_catalog(options.catalogs), root=Path.cwd()
    )
    rows = found.bundle.scores
    verb = "" if found.new else "was there already: "
    print(
        f"{PREFIX}{found.folder.name}: {verb}{len(rows)} rows of "
        f"{len({row.backbone for row in rows})} backbones, outcomes of {len(found.bundle.units)} "
        f"runs",
        file=sys.stderr,
    )
    for why, count in list(found.apart.items())[:_MOST]:
        print(f"set apart: {count} rows, {line(why)}", file=sys.stderr)
    if len(found.apart) > _MOST:
        print(f"set apart: rows of {len(found.apart) - _MOST} more kinds", file=sys.stderr)
    return 0


_MOST = 10
