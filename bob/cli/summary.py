"""``bob summary``: what a session came to, as an exit status and as Markdown for a pull request."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bob.errors import BobError, unknown
from bob.options.arguments import add_arguments, read_arguments


def add_command(commands: Any) -> None:
    """Add ``bob summary`` to the subcommands."""
    parser = commands.add_parser(
        "summary", help="what a session came to, for CI",
        description="Reads the ledger. Exit status: 0 every case is within its band; 1 a case is "
        "worse than its reference; 3 something was skipped, has no reference, is undecided, or the "
        "session was cut short; 4 a case failed with an error; 5 nothing ran; 2 there is no such "
        "session.",
    )  # fmt: skip
    parser.add_argument("session", nargs="?", help="the newest by default")
    add_arguments(parser, "summary")
    parser.add_argument(
        "--since", default="", metavar="TIME",
        help="only a session that began then or later: ISO 8601, in UTC where it has no offset; if "
        "there is none, nothing ran",
    )  # fmt: skip
    parser.add_argument("--ledger", default="", metavar="DIR", help="mlruns/ledger by default")
    parser.add_argument("--markdown", action="store_true", help="for a job summary or a comment")
    parser.add_argument(
        "--all", action="store_true", help="every case, not what is to be looked at"
    )
    parser.set_defaults(run=_summary)


def _summary(args: argparse.Namespace) -> int:
    from bob.ledger import Ledger
    from bob.report.summary_text import NOTHING, markdown_text, outcome, plain_text
    from bob.tracking.destination import resolve_store

    options = read_arguments(args)
    shown = markdown_text if args.markdown else plain_text
    root = resolve_store(Path.cwd(), options.tracking_uri).ledger
    ledger = Ledger(Path(args.ledger) if args.ledger else root)
    name = _session(args.session, ledger, since=_time(args.since))
    if not name:
        print(shown("-", NOTHING, every=args.all), end="" if args.markdown else "\n")
        return int(outcome(NOTHING))
    summary = ledger.summary(name)
    if summary is None:
        own = ledger.root / name / "summary.json"
        for damage in ledger.damaged:
            if damage.path == own:
                raise BobError(str(damage))
        summary = _of_verdicts(ledger, name)
    print(shown(name, summary, every=args.all), end="" if args.markdown else "\n")
    return int(outcome(summary))


def _of_verdicts(ledger: Any, session: str) -> dict[str, Any]:
    """What a session that was killed had judged."""
    from bob.ledger.plain import jsonable
    from bob.report.text import summary_row

    entries = {entry.entry: entry.result for entry in ledger.entries(session)}
    rows = []
    for judgement in ledger.verdicts(session):
        results = [entries[name] for name in judgement.entries if name in entries]
        if results and judgement.role == "check":
            failure = next((result.failure for result in results if result.failure), None)
            rows.append(summary_row(results[0].case, judgement.verdict, failure))
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return {"status": "KILLED", "rows": jsonable(rows), "counts": counts}


def _time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise BobError(f"--since {text!r}: expected a time such as 2026-01-31T12:00:00.") from None
    if moment is None:
        return ""
    try:
        return (moment.astimezone(UTC) if moment.tzinfo else moment).isoformat()
    except OverflowError:
        raise BobError(f"--since {text!r}: there is no such time in UTC.") from None


def _session(text: str | None, ledger: Any, *, since: str) -> str:
    """Name of the session that is meant; empty where none began since then."""
    sessions: list[str] = ledger.sessions()
    if since:
        sessions = [name for name in sessions if ledger.facts(name)[1][:19] >= since[:19]]
        if not sessions:
            return ""
    if not sessions:
        raise BobError(f"There is no session in {ledger.root}. --ledger names another folder.")
    if text is None:
        return sessions[-1]
    if not text.strip():
        raise BobError("The name of the session is empty. Leave it out for the newest.")
    found = [name for name in sessions if name == text]
    found = found or [name for name in sessions if name.startswith(text)]
    if len(found) > 1:
        raise BobError(f"{text}: {len(found)} sessions begin so. Write more of the name.")
    if not found:
        raise unknown("session", text, sessions)
    return found[0]
