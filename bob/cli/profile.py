"""``bob profile``: what every backbone scored in every setting."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        "--from", dest="source", choices=SOURCES, default="references",
        help="where scores are read: references, mlruns/ledger, or an MLflow store; of runs of the "
        "same seed the newest",
    )  # fmt: skip
    profile.add_argument("--session", default="", help="of the ledger or the store: this one alone")
    profile.add_argument("--markdown", action="store_true", help="as a Markdown table")
    profile.set_defaults(run=_profile)


def _profile(args: argparse.Namespace) -> int:
    from bob.catalog import load_catalog
    from bob.errors import BobError, unknown
    from bob.report.profile import profile_table
    from bob.report.sources import newest
    from bob.tabular import aligned, markdown

    options = read_arguments(args)
    scale = load_catalog(options.catalogs).scale(options.scale).key
    scores = newest(_scores(args, options))
    measured = {score.backbone for score in scores}
    if not measured and args.source != "references":
        raise BobError(f"There is no score of scale {scale!r} in the {args.source}.")
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
    from bob.tracking.destination import check_reachable, resolve_store

    store = resolve_store(Path.cwd(), options.tracking_uri)
    if args.source == "ledger":
        from bob.ledger import Ledger
        from bob.report.sources import scores_of_ledger

        ledger = Ledger(store.ledger)
        scores = list(scores_of_ledger(ledger, scale=scale, session=args.session))
        for damage in ledger.damaged:
            print(f"left out: {damage}", file=sys.stderr)
        return scores
    from bob.tracking.read import scores_of_store
    from bob.tracking.writer import Writer

    check_reachable(store)
    return list(scores_of_store(Writer(store), scale=scale, session=args.session))
