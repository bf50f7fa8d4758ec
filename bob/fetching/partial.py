"""What came of a file before a connection broke off, and whether the rest can be put behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob.shared_folders import share

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True)
class Partial:
    """The beginning of a file, with a note on where it is from.

    Attributes:
        target: Where the whole file will lie; the beginning lies beside it.
    """

    target: Path
    path: Path = field(init=False)
    _note: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(f"{self.target}.part"))
        object.__setattr__(self, "_note", Path(f"{self.target}.part.json"))

    @property
    def size(self) -> int:
        """Bytes that are there, to which the rest can be written."""
        try:
            with self.path.open("r+b"):
                return self.path.stat().st_size
        except (FileNotFoundError, PermissionError):  # or another user's
            return 0

    @property
    def note(self) -> dict[str, Any]:
        """``url``, ``length`` and ``validator`` of the answer it began with; empty without one."""
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def begin(self, url: str, length: int | None, validator: str) -> None:
        """Note what it is the beginning of."""
        self.drop()  # another user's could not be written to
        facts = {"url": url, "length": length, "validator": validator}
        self.path.touch()
        self._note.write_text(json.dumps(facts), encoding="utf-8")
        for path in (self.path, self._note):
            share(path, path.parent)

    def drop(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """It is whole: it takes its place."""
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)


def validator_of(answer: requests.Response) -> str:
    """What names this version of the file; a weak ETag does not name bytes."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def place_of(
    answer: requests.Response, have: int, note: dict[str, Any]
) -> tuple[int | None, int | None]:
    """First byte of an answer and length of the whole file; no first byte where it changed."""
    if answer.status_code != 206:
        whole = answer.headers.get("Content-Length", "")
        return 0, int(whole) if whole.isdecimal() else None
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    length = int(total) if total.isdecimal() else None
    changed = (
        span.split("-")[0] != str(have)
        or note.get("length") not in (None, length)
        or validator_of(answer) != note.get("validator")
    )
    return (None if changed else have), length
