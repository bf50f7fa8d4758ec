"""What the ledger holds, and the names it is held under."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bob import __version__
from bob.case import Case, Result, Verdict
from bob.hashing import digest_of, file_name

RESUMED = "bob.resume"
"""Fact of a session that reuses results of earlier ones."""

SCHEMA = 1
"""Version of the files; one that is newer than the reader's is named and left alone."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A result as the ledger holds it.

    Attributes:
        entry: Name of its folder, unique within the session and known before the case runs.
        session: The session that ran it.
        role: ``check`` or ``reference``.
        time: When it was finished, ISO 8601 in UTC.
        curve: What was reported of each epoch while it ran: epoch counted from 1, and metrics.
        version: Of the suite that ran it.
        facts: Of the session: scale, commit, user.
    """

    entry: str
    session: str
    role: str
    time: str
    result: Result
    curve: tuple[tuple[int, Mapping[str, float]], ...] = ()
    version: str = __version__
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict as the ledger holds it.

    Attributes:
        name: Of its file, unique within the session.
        entries: Results it rests on, by entry, in the order they ran; one of an earlier session
            that was reused is ``session/entry``.
    """

    name: str
    session: str
    entries: tuple[str, ...]
    verdict: Verdict
    role: str = "check"

    def session_and_entry(self, name: str) -> tuple[str, str]:
        """Where a result that is named in ``entries`` lies."""
        session, slash, entry = name.partition("/")
        return (session, entry) if slash else (self.session, name)


@dataclass(frozen=True)
class Damage:
    """An entry that cannot be read.

    Attributes:
        path: The folder or file.
        reason: What is wrong, and what to do.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def entry_name(case: Case, role: str) -> str:
    """Name of a run's folder: readable, and one for each run of a session."""
    key = digest_of([case.id, case.backbone.key, case.scale])[:8]
    return f"{case.task}-{file_name(case.name)}-s{case.seed}-{role}-{key}"


def is_name_of(entry: str, case: Case, role: str) -> bool:
    """Whether a run of a case may be called so: its name, or that of a later run of the session."""
    return re.fullmatch(rf"{re.escape(entry_name(case, role))}(-\d+)?", entry) is not None


def verdict_name(case: Case) -> str:
    """Name of a case's verdict within a session."""
    key = digest_of([case.id, case.backbone.key, case.scale])[:8]
    return f"{case.task}-{file_name(case.name)}-{key}"


def superseded(entries: Iterable[Recorded], judgements: Iterable[Judgement]) -> set[str]:
    """Entries of one session that do not count, because their case was run again in it.

    A plugin may run a test twice. The last verdict of a case stands, and what it rests on counts.

    Args:
        entries: Of one session.
        judgements: Of the same.
    """
    by_name = {recorded.entry: recorded for recorded in entries}
    counting: dict[tuple[str, ...], set[str]] = {}
    for judgement in judgements:
        for name in judgement.entries:
            if name in by_name:
                counting.setdefault(_slot(by_name[name]), set()).update(judgement.entries)
    return {
        name
        for name, recorded in by_name.items()
        if name not in counting.get(_slot(recorded), {name})
    }


def _slot(recorded: Recorded) -> tuple[str, ...]:
    case = recorded.result.case
    return case.with_seed(0).id, case.backbone.key, case.scale, recorded.role


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
