"""``bob sync``: send what an MLflow store does not have yet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bob.options.arguments import add_arguments, read_arguments


def add_command(commands: Any) -> None:
    """Add ``bob sync`` to the subcommands."""
    parser = commands.add_parser(
        "sync",
        help="send results that an MLflow store does not have yet, from the ledger",
        description="Every result is kept under mlruns/ledger before anything else. This sends "
        "what a store lacks: every case once, however often it is run.",
    )
    add_arguments(parser, "sync")
    parser.add_argument("--session", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--ledger", default="", metavar="DIR", help="mlruns/ledger by default")
    parser.set_defaults(run=_sync)


def _sync(args: argparse.Namespace) -> int:
    from bob.errors import BobError, unknown
    from bob.ledger import Ledger
    from bob.tracking.destination import check_reachable, resolve_store
    from bob.tracking.sync import sync
    from bob.tracking.writer import Writer

    destination = resolve_store(Path.cwd(), read_arguments(args).tracking_uri)
    ledger = Ledger(Path(args.ledger) if args.ledger else destination.ledger)
    sessions = ledger.sessions()
    if not sessions:
        raise BobError(
            f"There is no session under {ledger.root}. Run this where pytest was run, or name the "
            "folder with --ledger."
        )
    for name in args.session:
        if name not in sessions:
            raise unknown("session", name, sessions)
    check_reachable(destination)
    writer = Writer(destination)
    report = sync(ledger, writer, sessions=args.session)
    print(
        f"{_count(report.sent, 'result')} and {_count(report.verdicts, 'verdict')} sent to "
        f"{destination.uri}"
        + (f", {report.mended} of which it had a part" if report.mended else "")
        + f"; {report.present} were there already."
    )
    for note in report.notes:
        print(note.strip())
    for text in writer.remarks:
        print(text, file=sys.stderr)
    for session in report.running:
        print(f"session {session} is still running and was left to it; send it later.")
    for damage in ledger.damaged:
        print(f"left out: {damage}", file=sys.stderr)
    return 1 if ledger.damaged else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
