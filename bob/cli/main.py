"""The command ``bob`` and its commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bob import __version__
from bob.cli import (
    check,
    compare,
    datasets,
    demo,
    doctor,
    export,
    features,
    importing,
    listing,
    outcomes,
    plan,
    profile,
    report,
    show,
    summary,
    sync,
    ui,
)
from bob.cli.streams import shown_streams
from bob.errors import BobError

_COMMANDS = (
    demo, listing, plan, show, check, profile, summary, report, compare, export, importing, doctor,
    datasets, features, sync, outcomes, ui,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    with shown_streams():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    args = make_parser().parse_args(arguments)
    try:
        status: int = args.run(args)
        return status
    except BobError as error:
        print(f"bob: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="bob",
        description="Battle of the backbones. The benchmark itself runs with pytest: "
        "`pytest --pyargs suites -k swin`.",
    )
    parser.add_argument("--version", action="version", version=f"bob {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_command(commands)
    return parser
