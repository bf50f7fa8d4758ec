"""The content-addressed feature store: one folder per entry, under the digest of its key."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from bob.features import entry
from bob.features.entry import Damaged, Manifest, TooWide
from bob.features.matrix import Features
from bob.hashing import digest_of
from bob.places import features_root

DEFAULT_LIMIT = 50 * 2**30
Batches = Callable[[], Iterable[NDArray[np.float32]]]


def default_folder() -> Path:
    """``$BOB_FEATURES``, else ``bob/features`` in the user's cache folder."""
    return features_root()


@dataclass(frozen=True)
class Entry:
    """An entry as ``bob features ls`` shows it.

    Attributes:
        key: Digest it is stored under.
        manifest: What it says of itself; none when that cannot be read.
        size: Bytes on disk.
        used: When it was last read, in seconds since the epoch.
        problem: What is wrong with it; empty when nothing is known to be.
    """

    key: str
    manifest: Manifest | None
    size: int
    used: float
    problem: str = ""


@dataclass(frozen=True)
class Request:
    """Features that are wanted.

    Attributes:
        facts: Everything they depend on.
        about: Backbone, dataset and split, in words.
        rows: Number of images.
        width: Features per image.
        half: Whether half precision holds what the extraction computes.
        fingerprint: What the backbone makes of a fixed input now.
    """

    facts: Mapping[str, Any]
    about: str
    rows: int
    width: int
    half: bool
    fingerprint: tuple[float, ...]

    @property
    def key(self) -> str:
        """Digest of the facts."""
        return digest_of(dict(self.facts), length=40)


@dataclass
class FeatureStore:
    """Entries under one folder. Safe for any number of processes at once.

    An entry is written under a temporary name, read back and compared, and then renamed, so that a
    key either has a whole entry or none. Every process compares an entry's bytes with its manifest
    before it reads them first. What does not hold is extracted anew.

    Attributes:
        root: Folder of the store; created when needed.
        limit: Bytes to keep; the least recently used entries go first.
    """

    root: Path
    limit: int = DEFAULT_LIMIT
    _checked: dict[str, object] = field(default_factory=dict)

    def get(
        self,
        request: Request,
        batches: Batches,
        *,
        waiting: Callable[[], None] = lambda: None,
        remark: Callable[[str], None] = lambda text: None,
        found_out: Callable[[], Sequence[str]] = tuple,
    ) -> tuple[Features, bool]:
        """The features of a request, extracted only if the store has none that are sound.

        Args:
            request: What is wanted.
            batches: Starts the extraction; called only if it is needed.
            waiting: Called when another process is at work on the same key.
            remark: Receives what was found wrong and put right.
            found_out: What the extraction found out about the images, asked for after it; kept
                with the features and told to ``remark`` whenever they are used.

        Returns:
            The features, and whether they were extracted now.

        Raises:
            OSError: The store's disk is full or cannot be written.
        """
        with self._lock(request.key, waiting):
            found = self._open(request, remark)
            if found is not None:
                return found, False
            self._make_room(request.rows * request.width * (2 if request.half else 4))
            return self._write(request, batches, remark, found_out), True

    def _open(self, request: Request, remark: Callable[[str], None]) -> Features | None:
        folder = self._folder(request.key)
        if not folder.exists():
            return None
        try:
            manifest = entry.read_manifest(folder)
            if (manifest.rows, manifest.key) != (request.rows, request.key):
                raise Damaged(f"it holds {manifest.rows} rows instead of {request.rows}")
            if not _same(manifest.fingerprint, request.fingerprint):
                raise Damaged("the backbone's code gives other features than it did")
            self._check(folder, manifest)
            features = entry.load(folder, manifest)
            for text in manifest.remarks:
                remark(text)
        except (Damaged, OSError, ValueError) as error:
            remark(f"stored features of {request.about} were extracted anew: {error}")
            self._discard(folder)
            return None
        with suppress(OSError):
            os.utime(folder)
        return features

    def _check(self, folder: Path, manifest: Manifest) -> None:
        stamp = entry.stamp(folder, manifest)
        if self._checked.get(manifest.key) != stamp:
            entry.check(folder, manifest)
            self._checked[manifest.key] = stamp

    def _write(
        self,
        request: Request,
        batches: Batches,
        remark: Callable[[str], None],
        found_out: Callable[[], Sequence[str]],
    ) -> Features:
        scratch = self.root / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        for left in scratch.glob(f"{request.key}-*"):  # whoever wrote it no longer holds the lock
            shutil.rmtree(left, ignore_errors=True)
        for half in (True, False) if request.half else (False,):
            folder = Path(tempfile.mkdtemp(prefix=f"{request.key}-", dir=scratch))
            try:
                manifest = entry.write(
                    folder,
                    batches(),
                    rows=request.rows,
                    half=half,
                    facts=dict(request.facts),
                    key=request.key,
                    about=request.about,
                    fingerprint=request.fingerprint,
                    found_out=found_out,
                )
                entry.check(folder, manifest)
                final = self._folder(request.key)
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder, final)
            except TooWide:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            except Damaged as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise OSError(f"what was written to {folder} reads back wrong: {error}") from None
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._checked[manifest.key] = entry.stamp(final, manifest)
            for text in manifest.remarks:
                remark(text)
            return entry.load(final, manifest)
        raise AssertionError("float32 holds every value")

    def entries(self) -> Iterator[Entry]:
        """Every entry, least recently used first; shards are not read."""
        found = [self._entry(folder) for folder in self.root.glob("??/*") if folder.is_dir()]
        yield from sorted(found, key=lambda kept: kept.used)

    def verify(self) -> Iterator[Entry]:
        """Every entry with its bytes compared; what is wrong stands in ``problem``."""
        for kept in self.entries():
            problem = kept.problem
            if kept.manifest is not None:
                with self._lock(kept.key):
                    try:
                        entry.check(self._folder(kept.key), kept.manifest)
                    except Damaged as error:
                        problem = str(error)
            yield Entry(kept.key, kept.manifest, kept.size, kept.used, problem)

    def remove(self, key: str) -> None:
        """Remove the entry of a key; waits for a process that is writing it."""
        with self._lock(key):
            self._discard(self._folder(key))

    def trim(self, limit: int | None = None) -> list[Entry]:
        """Remove the least recently used entries until the rest fits the limit.

        Entries another process is writing or checking are left alone; one that is being read stays
        readable there until it is closed.
        """
        known = list(self.entries())
        excess = sum(kept.size for kept in known) - (self.limit if limit is None else limit)
        removed = []
        for kept in known:
            if excess <= 0:
                break
            with suppress(Timeout), self._file_lock(kept.key).acquire(timeout=0):
                self._discard(self._folder(kept.key))
                removed.append(kept)
                excess -= kept.size
        self._sweep()
        return removed

    def _sweep(self) -> None:
        """Take away what processes that were killed left half-written."""
        for left in (self.root / "tmp").glob("*-*"):
            key = left.name.split("-", 1)[0]
            with suppress(Timeout), self._file_lock(key).acquire(timeout=0):
                shutil.rmtree(left, ignore_errors=True)

    def _make_room(self, size: int) -> None:
        """Remove old entries when the disk would not hold the new one; ``OSError`` if too few."""
        self.root.mkdir(parents=True, exist_ok=True)
        while shutil.disk_usage(self.root).free < size * 1.02 + 2**20:
            known = sum(kept.size for kept in self.entries())
            if not known or not self.trim(max(0, known - size)):
                raise OSError(f"{size / 2**20:.0f} MB do not fit the disk of {self.root}")

    def _entry(self, folder: Path) -> Entry:
        try:
            used = folder.stat().st_mtime
            manifest = entry.read_manifest(folder)
        except Damaged as error:
            size = sum(path.stat().st_size for path in folder.glob("*"))
            return Entry(folder.name, None, size, 0.0, str(error))
        except OSError as error:
            return Entry(folder.name, None, 0, 0.0, str(error))
        return Entry(folder.name, manifest, manifest.size, used)

    def _folder(self, key: str) -> Path:
        return self.root / key[:2] / key

    def _discard(self, folder: Path) -> None:
        """Take an entry away in one step, so that nobody sees half of it."""
        self._checked.pop(folder.name, None)
        scratch = self.root / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=scratch))
        with suppress(FileNotFoundError):
            os.replace(folder, aside / "entry")
        shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def _lock(self, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        lock = self._file_lock(key)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _file_lock(self, key: str) -> FileLock:
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock")


def _same(stored: tuple[float, ...], now: tuple[float, ...]) -> bool:
    """Equal but for rounding: other threads or devices may add in another order."""
    if len(stored) != len(now):
        return False
    scale = max(map(abs, stored), default=0.0)
    return all(abs(a - b) <= 1e-3 * scale for a, b in zip(stored, now, strict=True))
