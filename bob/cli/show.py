"""``bob show``: what a case is fed, as pictures, before hours are spent on it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bob.cli.selecting import add_selection, selected_cases
from bob.errors import BobError
from bob.options.arguments import add_arguments, read_arguments

_MOST = 12


def add_command(commands: Any) -> None:
    """Add ``bob show`` to the subcommands."""
    parser = commands.add_parser(
        "show", help="what a case is fed: images of each class, as the backbone gets them",
        description="Writes a picture for each chosen case, at most a dozen. Nothing is trained. "
        "Test images are framed by whether the newest run in the ledger had them right.",
    )  # fmt: skip
    add_arguments(parser, "show")
    add_selection(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("bob-show"), metavar="DIR",
        help="folder of the pictures (bob-show)",
    )  # fmt: skip
    parser.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    from bob.hashing import own_file_name
    from bob.run.seen import seen

    options = read_arguments(args)
    cases = selected_cases(args, options)
    if not cases:
        raise BobError("No case is selected: see `bob plan` with the same options.")
    if len(cases) > _MOST:
        raise BobError(
            f"{len(cases)} cases are selected, such as {cases[0].task}[{cases[0].name}]. Choose a "
            "dozen at most with -k, --task and --backbone."
        )
    known = _outcomes({case.with_seed(0).id for case in cases}, options)
    bad = 0
    for case in cases:
        try:
            content = seen(case, known.get(case.with_seed(0).id))
        except BobError as error:
            print(f"bob: {case.task}[{case.name}]: {error}", file=sys.stderr)
            bad += 1
            continue
        path = args.output / f"{own_file_name(f'{case.task}-{case.name}')}.png"
        try:
            args.output.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise BobError(f"Cannot write {path} ({error.strerror or error}).") from None
        print(path)
    return 2 if bad else 0


def _outcomes(wanted: set[str], options: Any) -> dict[str, Any]:
    """Outcomes of the newest run of each case that has some, by its id with seed 0."""
    from bob.ledger import Ledger
    from bob.tracking.destination import resolve_store

    ledger = Ledger(resolve_store(Path.cwd(), options.tracking_uri).ledger)
    found = {}
    for entry in sorted(ledger.entries(), key=lambda entry: entry.time):
        key = entry.result.case.with_seed(0).id
        if key in wanted and entry.result.outcomes is not None:
            found[key] = entry.result.outcomes
    return found
