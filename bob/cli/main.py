"""The command ``bob`` and its commands."""

from __future__ import annotations

import argparse
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

_CLOSED_PIPE = 141
"""Exit status of what a closed pipe ends, as a shell tells it."""

_COMMANDS = (
    demo, listing, plan, show, check, profile, summary, report, compare, export, importing, doctor,
    datasets, features, sync, outcomes, ui,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    with shown_streams():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    status: int | None = None
    try:
        args = make_parser().parse_args(arguments)
        status = args.run(args)
        sys.stdout.flush()
    except BobError as error:
        print(f"bob: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # whoever reads has enough; a command that had not come to its end has no status yet
        return _CLOSED_PIPE if status is None else status
    return status


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
