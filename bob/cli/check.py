"""``bob check``: what of a selection has been run, and what ``--resume`` would run."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bob.cli.selecting import add_selection, selected_cases
from bob.errors import BobError
from bob.options.arguments import add_arguments, read_arguments


def add_command(commands: Any) -> None:
    """Add ``check`` to an argument parser."""
    check = commands.add_parser(
        "check", help="what of a selection has been run",
        description="Says of each case of a selection whether its results are in the ledger "
        "(done), or why they are not: missing, failed, or stale, which means that something else "
        "was run under its name. It runs nothing. The exit status is 1 when something is to be "
        "run, and that is what pytest with the same options and --resume runs.",
    )  # fmt: skip
    add_arguments(check, "check")
    add_selection(check)
    check.add_argument("--ledger", default="", metavar="DIR", help="mlruns/ledger by default")
    check.add_argument("--json", action="store_true", help="for machines")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from bob.cli.standings import is_done, record, standings, table
    from bob.ledger import Ledger
    from bob.reuse import Earlier
    from bob.tracking import resolve_store
    from bob.tracking.pulling import StoreResults
    from bob.tracking.readable import is_made, readable
    from bob.tracking.writer import Writer

    options = read_arguments(args)
    cases = selected_cases(args, options)
    if not cases:
        raise BobError("No case is selected: see `bob plan` with the same options.")
    destination = resolve_store(Path.cwd(), options.tracking_uri)
    root = Path(args.ledger) if args.ledger else destination.ledger
    earlier = Earlier(Ledger(root))
    with ExitStack() as open_store:
        if options.tracking_uri and is_made(destination):
            store = open_store.enter_context(readable(destination))
            earlier.elsewhere = StoreResults(Writer(store), earlier.ledger)
        found = standings(cases, options, earlier)
    print(json.dumps(record(found), indent=1) if args.json else table(found))
    for problem in earlier.problems:
        print(f"bob: the store was not asked for what the ledger lacks: {problem}", file=sys.stderr)
    for damage in earlier.damaged:
        print(f"not read: {damage}", file=sys.stderr)
    if not root.is_dir():
        print(f"bob: there is no ledger at {root}; --ledger names another", file=sys.stderr)
    return 0 if all(map(is_done, found)) else 1
