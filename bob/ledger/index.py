"""Entries of a ledger by what they are results of, without opening any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bob.case import Case
from bob.ledger.ledger import Ledger
from bob.ledger.reading import Unreadable, check_names, read_entry, read_record
from bob.ledger.records import Damage, Recorded, entry_name

_NAME = re.compile(r"(?P<what>.+)-(?P<key>[0-9a-f]{8})(-\d+)?")
"""A folder's name: task, case, seed and role; the digest of the case; how often it ran."""


@dataclass
class Index:
    """Where a ledger keeps the results of a case, as it was when it was first asked.

    Attributes:
        ledger: Its folder names are read once. Entries are opened one by one as they are asked for.
        damaged: Entries that were asked for and could not be read.
    """

    ledger: Ledger
    damaged: list[Damage] = field(default_factory=list)
    _facts: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, case: Case, role: str) -> list[Path]:
        """Folders of the results of a case under its name, seed and role."""
        return self._folders(case, role)[0]

    def others(self, case: Case, role: str) -> list[Path]:
        """Folders of what was run under the same name, seed and role, and was another case."""
        return self._folders(case, role)[1]

    def add(self, folder: Path) -> None:
        """Know a folder that was written since."""
        if found := _NAME.fullmatch(folder.name):
            named = self._by_name.setdefault(found["what"], [])
            if (found["key"], folder) not in named:
                named.append((found["key"], folder))

    def head(self, folder: Path) -> Mapping[str, object] | None:
        """What ``result.json`` says, unchecked; none where it cannot be read."""
        try:
            return read_record(folder / "result.json")
        except Unreadable as error:
            self._damage(folder, error)
            return None

    def read(self, folder: Path) -> Recorded | None:
        """The result in a folder, checked; none where it is damaged."""
        session = folder.parent.name
        if session not in self._facts:
            self._facts[session] = self.ledger.facts(session)[0]
        try:
            recorded = read_entry(folder, self._facts[session])
            check_names(recorded, session=session, entry=folder.name)
            return recorded
        except Unreadable as error:
            self._damage(folder, error)
            return None

    def _folders(self, case: Case, role: str) -> tuple[list[Path], list[Path]]:
        found = _NAME.fullmatch(entry_name(case, role))
        assert found is not None
        same: list[Path] = []
        other: list[Path] = []
        for key, folder in self._by_name.get(found["what"], ()):
            (same if key == found["key"] else other).append(folder)
        return same, other

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[str, Path]]]:
        names: dict[str, list[tuple[str, Path]]] = {}
        for session in self.ledger.sessions():
            for folder in (self.ledger.root / session).iterdir():
                if found := _NAME.fullmatch(folder.name):
                    names.setdefault(found["what"], []).append((found["key"], folder))
        return names

    def _damage(self, folder: Path, error: Unreadable) -> None:
        damage = Damage(folder, str(error))
        if damage not in self.damaged:
            self.damaged.append(damage)
