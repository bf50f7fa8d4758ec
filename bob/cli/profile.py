"""``bob profile``: what every backbone scored in every setting."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob.cli.gathering import IMPORTED, is_source
from bob.errors import did_you_mean
from bob.options.arguments import add_arguments, read_arguments

if TYPE_CHECKING:
    from bob.ledger import Score
    from bob.options import Options

SOURCES = ("references", "ledger", "mlflow")


def add_command(commands: Any) -> None:
    """Add ``bob profile`` to the subcommands."""
    profile = commands.add_parser("profile", help="every backbone's scores in every setting")
    profile.add_argument("backbones", nargs="*", help="which, in this order; all by default")
    add_arguments(profile, "profile")
    profile.add_argument(
        "--from", dest="source", type=_source, metavar="SOURCE", default="references",
        help="where scores are read: references, ledger (of mlruns), mlflow, the address of "
        "another store, the folder of another ledger or of an export, or imported:NAME; of runs of "
        "the same seed the newest (references)",
    )  # fmt: skip
    profile.add_argument("--session", default="", help="of the ledger or the store: this one alone")
    profile.add_argument("--markdown", action="store_true", help="as a Markdown table")
    profile.set_defaults(run=_profile)


def _source(text: str) -> str:
    if text and is_source(text):
        return text
    near = did_you_mean(text, (*SOURCES, IMPORTED))
    raise argparse.ArgumentTypeError(
        f"{text!r} is none of {', '.join(SOURCES)}, the address of a store, the folder of a ledger "
        f"or an export, or imported:NAME. {near}".strip()
    )


def _profile(args: argparse.Namespace) -> int:
    from bob.catalog import load_catalog
    from bob.errors import BobError, unknown
    from bob.report.profile import profile_table
    from bob.report.published import measured_first
    from bob.report.sources import newest
    from bob.tabular import aligned, markdown

    options = read_arguments(args)
    scale = load_catalog(options.catalogs).scale(options.scale).key
    scores = newest(measured_first(_scores(args, options)))
    measured = {score.backbone for score in scores}
    if not measured and args.source != "references":
        where = f"the {args.source}" if args.source in SOURCES else args.source
        raise BobError(f"There is no score of scale {scale!r} in {where}.")
    for name in args.backbones:
        if name not in measured:
            raise unknown("measured backbone", name, measured)
    rows = profile_table(scores, backbones=args.backbones)
    print(markdown(rows) if args.markdown else "\n".join(aligned(rows)))
    return 0


def _scores(args: argparse.Namespace, options: Options) -> list[Score]:
    scale = options.scale
    if args.source == "references":
        from bob.references.files import ReferenceStore
        from bob.report.sources import scores_of_references

        return list(scores_of_references(ReferenceStore(options.references), scale))
    if args.source != "ledger":
        from bob.cli.gathering import of_source

        scores = of_source(args.source, options).scores
        return [score for score in scores if args.session in ("", score.session)]
    from bob.ledger import Ledger
    from bob.report.sources import scores_of_ledger
    from bob.tracking.destination import resolve_store

    ledger = Ledger(resolve_store(Path.cwd(), options.tracking_uri).ledger)
    scores = list(scores_of_ledger(ledger, scale=scale, session=args.session))
    for damage in ledger.damaged:
        print(f"left out: {damage}", file=sys.stderr)
    return scores
