"""What a session came to, from the summary in its ledger: lines, or Markdown for a comment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from bob.case import Status
from bob.shown import line
from bob.tabular import aligned, markdown

MARKER = "<!-- battle of the backbones -->"
"""First line of a comment, by which the next run finds it."""

NOTHING: Mapping[str, Any] = {"status": "FINISHED", "rows": [], "counts": {}}
"""The summary of a session in which no case ran."""

_Row = Mapping[str, Any]
_HEADER = ("backbone", "task", "dataset", "score", "band", "Δ", "verdict")


class Outcome(IntEnum):
    """What a session came to, as an exit status: the first that holds, in this order."""

    REGRESSION = 1
    """A case fell below its band."""
    ERROR = 4
    """A case has no score because something failed."""
    NOTHING = 5
    """No case ran."""
    INCOMPLETE = 3
    """A case was skipped, has no reference or is undecided, or the session was cut short."""
    GOOD = 0
    """Every case is within its band."""


def outcome(summary: Mapping[str, Any]) -> Outcome:
    """What a session came to.

    Args:
        summary: As ``Ledger.summary`` gives it.
    """
    rows = summary["rows"]
    failed = [row for row in rows if row["status"] == Status.FAIL.value]
    if any(row["failure"] is None and not _measured(row) for row in failed):
        return Outcome.REGRESSION
    if any(row["failure"] is not None for row in failed):
        return Outcome.ERROR
    if not rows or all(row["status"] == Status.SKIPPED.value for row in rows):
        return Outcome.NOTHING
    whole = summary.get("status") == "FINISHED"
    if not whole or any(row["status"] != Status.PASS.value for row in rows):
        return Outcome.INCOMPLETE
    return Outcome.GOOD


def _measured(row: _Row) -> bool:
    """Whether a case is marked as failed because its reference was written."""
    return not row["bands"] and str(row["reason"]).startswith("reference ")


def plain_text(session: str, summary: Mapping[str, Any], *, every: bool) -> str:
    """For a terminal: what is not good, or every case."""
    table = _table(summary, every)
    return "\n".join(
        [_headline(session, summary), *(["", *aligned(table)] if len(table) > 1 else [])]
    )


def markdown_text(session: str, summary: Mapping[str, Any], *, every: bool = False) -> str:
    """For a job summary or a comment: what is not good open, every case folded below it."""
    rows = summary["rows"]
    parts = [MARKER, f"### {_headline(session, summary)}", ""]
    bad = _table(summary, every)
    if len(bad) > 1:
        parts += [markdown(bad), ""]
    reasons = [row for row in rows if row["status"] == Status.FAIL.value]
    parts += [f"- **{_name(row)}**: {line(str(row['reason']), limit=400)}" for row in reasons]
    if not every and len(rows) > len(bad) - 1:
        parts += ["", f"<details><summary>All {len(rows)} cases</summary>", ""]
        parts += [markdown(_table(summary, True)), "</details>"]
    return "\n".join(parts).rstrip() + "\n"


def _headline(session: str, summary: Mapping[str, Any]) -> str:
    words = {
        Outcome.REGRESSION: "worse than its reference", Outcome.ERROR: "something failed",
        Outcome.NOTHING: "nothing ran", Outcome.INCOMPLETE: "not all is decided",
        Outcome.GOOD: "as good as its reference",
    }  # fmt: skip
    counts = ", ".join(f"{count} {name}" for name, count in summary["counts"].items() if count)
    cut = "" if summary.get("status") == "FINISHED" else " (cut short)"
    return f"Session {session}{cut}: {words[outcome(summary)]}; {counts or 'no case'}"


def _table(summary: Mapping[str, Any], every: bool) -> list[tuple[str, ...]]:
    shown: Sequence[_Row] = summary["rows"]
    if not every:
        shown = [row for row in shown if row["status"] != Status.PASS.value]
    return [_HEADER, *map(_cells, shown)]


def _cells(row: _Row) -> tuple[str, ...]:
    band = row["bands"].get(row["metric"])
    # numbers that JSON has no word for are text in a ledger
    score = "-" if row["score"] is None else f"{row['metric']} {float(row['score']):.4f}"
    word = "error" if row["failure"] is not None and row["status"] == "fail" else row["status"]
    if row.get("unchanged"):  # earlier versions do not tell
        word = "pass (unchanged)"
    return (
        row["backbone"],
        row["task"],
        row["dataset"],
        score,
        f"[{float(band['low']):.4f}, {float(band['high']):.4f}]" if band else "-",
        _apart(band) if band else "-",
        word,
    )


def _apart(band: Mapping[str, Any]) -> str:
    apart = float(band["value"]) - float(band["reference"])
    return f"{round(apart, 4) + 0.0:+.4f}" if math.isfinite(apart) else str(apart)


def _name(row: _Row) -> str:
    return f"{row['backbone']} {row['task']}/{row['dataset']}"
