"""Digests of the bytes of many files, remembered between sessions.

Standard library alone, so that a plan can ask. A digest that was kept is believed only while the
file's device, inode, size, time of change and time of its inode's change are what they were.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from bob.hashing import digest_of_file
from bob.places import digests_file

UNREADABLE = ""
"""Stands for the digest of a file that is not there or cannot be read."""

_SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again within the same tick of
its file system's clock (two seconds on FAT), so its digest is not kept."""

_READERS = 8
_CHUNK = 500
_TOLD_EVERY = 5.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, "
    "sha256 TEXT NOT NULL) WITHOUT ROWID"
)

Watch = Callable[[int, int], None]
"""Called with the files that are read and those there are to read."""


@dataclass(frozen=True)
class _Stamp:
    text: str
    changed_ns: int


def digests_of_files(
    paths: Sequence[Path], *, cache: Path | None = None, watch: Watch | None = None
) -> tuple[str, ...]:
    """Hex SHA-256 of each file's bytes; ``UNREADABLE`` where it cannot be read.

    Files that are new or have moved are read, several at once; the others' digests are looked up.
    A cache that cannot be used costs time and nothing else.

    Args:
        paths: Files, in any order.
        cache: SQLite file; ``bob.places.digests_file()`` unless given.
        watch: Told every few seconds, where reading takes longer; a line to standard error
            unless given.
    """
    names = [os.path.abspath(path) for path in paths]
    stamps = {name: _stamp(name) for name in dict.fromkeys(names)}
    kept = _Cache(cache or digests_file())
    known = {
        name: sha256
        for name, (text, sha256) in kept.read(stamps).items()
        if (stamp := stamps[name]) is not None and stamp.text == text
    }
    unread = [name for name, stamp in stamps.items() if stamp is not None and name not in known]
    started = time.time_ns()
    found = dict(zip(unread, _read(unread, watch or _told), strict=True))
    kept.write(
        (name, stamp.text, sha256)
        for name, sha256 in found.items()
        if sha256 != UNREADABLE
        and (stamp := _stamp(name)) is not None
        and stamp == stamps[name]
        and stamp.changed_ns < started - _SETTLED_NS
    )
    return tuple(known.get(name) or found.get(name, UNREADABLE) for name in names)


def _stamp(name: str) -> _Stamp | None:
    try:
        facts = os.stat(name)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    parts = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return _Stamp(" ".join(map(str, parts)), max(facts.st_mtime_ns, facts.st_ctime_ns))


def _told(done: int, total: int) -> None:
    print(f"bob: reading files to know them by their bytes, {done:,} of {total:,}", file=sys.stderr)


def _read(names: Sequence[str], watch: Watch) -> Iterator[str]:
    if not names:
        return
    told = time.monotonic()
    # hashlib lets go of the interpreter's lock, and disks like several readers
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as readers:
        for done, sha256 in enumerate(readers.map(_digest, names), start=1):
            if time.monotonic() - told > _TOLD_EVERY:
                told = time.monotonic()
                watch(done, len(names))
            yield sha256


def _digest(name: str) -> str:
    try:
        return digest_of_file(Path(name))
    except OSError:
        return UNREADABLE


@dataclass(frozen=True)
class _Cache:
    file: Path

    def read(self, names: Iterable[str]) -> Mapping[str, tuple[str, str]]:
        """Stamp and digest of those names that are known."""
        wanted = [_encoded(name) for name in names]
        rows: list[tuple[str, str, str]] = []
        try:
            if not self.file.is_file():
                return {}
            with closing(sqlite3.connect(self.file, timeout=10)) as store:
                for start in range(0, len(wanted), _CHUNK):
                    some = wanted[start : start + _CHUNK]
                    marks = ",".join("?" * len(some))
                    rows += store.execute(
                        f"SELECT path, stamp, sha256 FROM digests WHERE path IN ({marks})", some
                    )
        except sqlite3.DatabaseError as error:
            self._discard(error)
            return {}
        except OSError:
            return {}
        return {_decoded(path): (stamp, sha256) for path, stamp, sha256 in rows}

    def write(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keep digests; nothing is kept where the file cannot be written."""
        encoded = [(_encoded(name), stamp, sha256) for name, stamp, sha256 in rows]
        if not encoded:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=10)) as store, store:
                store.execute(_TABLE)
                store.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", encoded)
        except sqlite3.DatabaseError as error:
            self._discard(error)
        except OSError:
            return

    def _discard(self, error: sqlite3.DatabaseError) -> None:
        """Remove a file that is no database; one that is busy or not ours to write stays."""
        if not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                self.file.unlink()


def _encoded(name: str) -> str:
    """A path as text that SQLite takes, whatever bytes the file system gave."""
    return os.fsencode(name).decode("latin-1")


def _decoded(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))
