"""``bob check``: what of a selection has been run, and what ``--resume`` would run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bob.case import Case
from bob.cli.selecting import add_selection, selected_cases
from bob.cost.calibration import kept_calibration
from bob.cost.cpu import estimate_on_cpu, total_on_cpu
from bob.cost.model import estimate
from bob.cost.present import Shelf
from bob.cost.speed import Speeds
from bob.cost.total import Total, is_little, refusal, rest_line, total
from bob.errors import BobError
from bob.options.arguments import add_arguments, read_arguments
from bob.places import features_root


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
    from bob.cli.standings import record, table
    from bob.ledger import Ledger
    from bob.reuse import Earlier
    from bob.standings import standings
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
    rest = [standing for standing in found if standing.to_run]
    speeds = Speeds(options.reference_gpu)
    shelf = Shelf(options.references, options.features or features_root())
    left = [(standing.case, standing.to_run, shelf.kept(standing.case)) for standing in rest]
    hours = [estimate(case, speeds, runs=runs, stored=kept) for case, runs, kept in left]
    if args.json:
        print(json.dumps(record(found, hours), indent=1))
    else:
        print(table(found))
        if rest:
            print(_rest_line(left, total(hours, speeds.gpu)))
    if not is_made(destination) and options.tracking_uri:
        print(f"bob: there is no store at {destination.database} yet", file=sys.stderr)
    for problem in earlier.problems:
        print(f"bob: the store was not asked for what the ledger lacks: {problem}", file=sys.stderr)
    for damage in earlier.damaged:
        print(f"not read: {damage}", file=sys.stderr)
    if not root.is_dir():
        print(f"bob: there is no ledger at {root}; --ledger names another", file=sys.stderr)
    if options.max_gpu_hours is not None:
        text = refusal(hours, speeds.gpu, options.max_gpu_hours)
        if text:
            print(f"bob: {text}", file=sys.stderr)
    return 1 if rest else 0


def _rest_line(left: Sequence[tuple[Case, int, frozenset[str]]], gpu: Total) -> str:
    """What is left in GPU-hours, or where it is little in minutes on this CPU, if that is known."""
    runs = sum(count for _, count, _ in left)
    if is_little(gpu):
        calibration = kept_calibration(lambda text: print(f"bob: {text}", file=sys.stderr))
        if calibration is not None:
            minutes = [
                estimate_on_cpu(case, calibration, runs=count, stored=kept)
                for case, count, kept in left
            ]
            return rest_line(total_on_cpu(minutes, calibration), runs, on_cpu=True)
    return rest_line(gpu, runs)
