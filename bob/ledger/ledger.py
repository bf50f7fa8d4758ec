"""Results as files: one folder a session, one folder a result in it.

``<root>/<session>/session.json``, ``<entry>/result.json`` with ``arrays.npz`` and ``files/`` beside
it, ``verdicts/<name>.json``. Everything is written elsewhere, brought to the disk, and renamed into
place, so that what is there is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bob.errors import BobError
from bob.ledger.plain import verdict_to_plain
from bob.ledger.reading import (
    Unreadable,
    is_whole,
    read_entry,
    read_facts,
    read_judgement,
    read_summary,
)
from bob.ledger.records import SCHEMA, Damage, Judgement, Recorded, now
from bob.ledger.writing import write_entry, write_record


@dataclass
class Ledger:
    """The ledger under a folder; several sessions may write to it at once.

    Attributes:
        root: Usually ``mlruns/ledger``.
        damaged: Entries that the last reading had to leave out.
    """

    root: Path
    damaged: list[Damage] = field(default_factory=list)
    _opened: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open_session(self, session: str, facts: Mapping[str, str], *, time: str = "") -> None:
        """Note a session and what holds for all of its results.

        Args:
            session: Its name.
            facts: What holds.
            time: When it began, ISO 8601 in UTC; now by default.

        Raises:
            BobError: The folder cannot be written to.
        """
        began = time or now()
        record = {"schema": SCHEMA, "session": session, "facts": dict(facts), "time": began}
        self._opened[session] = record
        try:
            self._note(session)
        except OSError as error:
            raise BobError(
                f"Cannot write to {self.root} ({error.strerror or error}), where every result is "
                "kept first. Nothing was run. Make it writable, or run in another folder."
            ) from None

    def _note(self, session: str) -> None:
        """Write the file of a session of this process, unless it is there."""
        path = self.root / session / "session.json"
        if session in self._opened and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_record(path, self._opened[session])

    def write(self, recorded: Recorded, *, replacing: bool = True) -> Path:
        """Write a result; when this returns it is on the disk, whole.

        Args:
            recorded: The result.
            replacing: Whether an entry that is there is written anew though it is whole.

        Returns:
            Its folder.

        Raises:
            BobError: The disk is full or the folder is not writable.
        """
        folder = self.root / recorded.session / recorded.entry
        try:
            write_entry(folder, recorded, stays=lambda: not replacing and is_whole(folder))
            self._note(recorded.session)  # somebody may have cleared the folder meanwhile
        except OSError as error:
            raise BobError(
                f"The result of {recorded.result.case.name} could not be kept under "
                f"{folder.parent} ({error.strerror or error}). Free space there, or make it "
                "writable."
            ) from error
        except (TypeError, ValueError) as error:
            raise BobError(
                f"The result of {recorded.result.case.name} cannot be written as a file ({error}). "
                f"Its protocol {recorded.result.case.task!r} gives something that is no number, "
                "text or list of them."
            ) from error
        return folder

    def write_verdict(self, judgement: Judgement) -> Path:
        """Write what a case's results mean; replaces an earlier verdict of the same name."""
        path = self.root / judgement.session / "verdicts" / f"{judgement.name}.json"
        record = {
            "schema": SCHEMA,
            "name": judgement.name,
            "session": judgement.session,
            "role": judgement.role,
            "entries": list(judgement.entries),
            "verdict": verdict_to_plain(judgement.verdict),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, record)
        return path

    def write_summary(self, session: str, summary: Mapping[str, Any]) -> None:
        """Write what a session came to: its status, counts and tables."""
        record = {"schema": SCHEMA, **summary}
        write_record(self.root / session / "summary.json", record)

    def sessions(self) -> list[str]:
        """Names of the sessions, oldest first."""
        if not self.root.is_dir():
            return []
        folders = [folder for folder in self.root.iterdir() if self._is_session(folder)]
        found = [(self.facts(folder.name)[1], folder.name) for folder in folders]
        return [name for _, name in sorted(found)]

    def _is_session(self, folder: Path) -> bool:
        """Whether a folder is a session's; one that has results and cannot be told is damaged."""
        try:
            if (folder / "session.json").is_file():
                return True
            if folder.is_dir() and any(folder.glob("*/result.json")):
                self._damage(folder, "has results and no session.json; put that back")
        except OSError as error:
            self._damage(folder, f"cannot be read ({error.strerror or error})")
        return False

    def facts(self, session: str) -> tuple[dict[str, str], str]:
        """What holds for a session, and when it began; empty where its file cannot be read."""
        path = self.root / session / "session.json"
        try:
            return read_facts(path)
        except Unreadable as error:
            self._damage(path, str(error))
            return {}, ""

    def summary(self, session: str) -> dict[str, Any] | None:
        """What ``write_summary`` wrote; none where the session has not ended, or it is damaged."""
        path = self.root / session / "summary.json"
        if not path.is_file():
            return None
        try:
            return read_summary(path)
        except Unreadable as error:
            self._damage(path, str(error))
            return None

    def entries(self, session: str | None = None) -> Iterator[Recorded]:
        """Every result, session by session, in the order they were finished.

        What cannot be read is left out and named in ``damaged``.
        """
        for name in [session] if session is not None else self.sessions():
            if not (self.root / name).is_dir():
                continue
            facts, _ = self.facts(name)
            found = []
            for folder in sorted((self.root / name).iterdir()):
                if folder.name.startswith(".") or not folder.is_dir() or folder.name == "verdicts":
                    continue
                try:
                    found.append(read_entry(folder, facts))
                except Unreadable as error:
                    self._damage(folder, str(error))
            yield from sorted(found, key=lambda recorded: (recorded.time, recorded.entry))

    def verdicts(self, session: str) -> Iterator[Judgement]:
        """Every verdict of a session, by name."""
        for path in sorted((self.root / session / "verdicts").glob("*.json")):
            try:
                yield read_judgement(path)
            except Unreadable as error:
                self._damage(path, str(error))

    def _damage(self, path: Path, reason: str) -> None:
        damage = Damage(path, reason)
        if damage not in self.damaged:
            self.damaged.append(damage)
