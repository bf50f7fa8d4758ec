"""The content-addressed feature store: one folder per entry, under the digest of its key."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from bob.features import entry, ownership
from bob.features.entry import Damaged, Manifest, Newer, TooWide
from bob.features.matrix import Features
from bob.features.ownership import KEY_DIGITS, SCRATCH
from bob.hashing import digest_of
from bob.places import features_root
from bob.shared_folders import make_folder, share, shared_lock

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
        size: Bytes of its shards on disk.
        used: When it was last read, in seconds since the epoch.
        problem: What is wrong with it; empty when nothing is known to be.
        newer: Whether a later version of bob made it; such entries are left alone.
    """

    key: str
    manifest: Manifest | None
    size: int
    used: float
    problem: str = ""
    newer: bool = False


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
        return digest_of(dict(self.facts), length=KEY_DIGITS)


@dataclass
class FeatureStore:
    """Entries under one folder. Safe for any number of processes at once.

    An entry is written under a temporary name, read back and compared, and then renamed, so that a
    key either has a whole entry or none. Every process compares an entry's bytes with its manifest
    before it reads them first. What does not hold is extracted anew.

    The folder may hold anything else besides: what is not an entry (see
    ``bob.features.ownership``) is neither counted nor removed. All that the store makes has the
    permissions of its folder, so that whoever may write there may use it; who may only read
    is given what is there.

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
        with self._lock(request.key, waiting) as refused:
            try:
                found = self._open(request)
            except Newer as error:
                remark(f"features of {request.about} are stored, but {error}: they are left alone")
                return _unstored(batches, remark, found_out), True
            except (Damaged, ValueError) as error:
                found, trouble = None, str(error)
            else:
                trouble = ""
            if found is not None:
                for text in found[1]:
                    remark(text)
                return found[0], False
            if refused is not None:
                raise refused
            place = self._clear(self._folder(request.key))
            if trouble or place:
                kept = f"; what was there is {place} now" if place else ""
                why = trouble or "it is no entry"
                remark(f"stored features of {request.about} were extracted anew: {why}{kept}")
            self._make_room(request.rows * request.width * (2 if request.half else 4))
            return self._write(request, batches, remark, found_out), True

    def _open(self, request: Request) -> tuple[Features, tuple[str, ...]] | None:
        """Features and remarks of a sound entry; none where nothing is.

        Raises:
            Damaged: What is there cannot be used.
            Newer: It is of a later version of bob.
            PermissionError: It may not be read.
        """
        folder = self._folder(request.key)
        if not os.path.lexists(folder):
            return None
        try:
            manifest = entry.read_manifest(folder)
            if (manifest.rows, manifest.key) != (request.rows, request.key):
                raise Damaged(f"it holds {manifest.rows} rows instead of {request.rows}")
            if not _same(manifest.fingerprint, request.fingerprint):
                raise Damaged("the backbone's code gives other features than it did")
            self._check(folder, manifest)
            features = entry.load(folder, manifest)
        except PermissionError:
            raise
        except OSError as error:
            raise Damaged(str(error)) from None
        with suppress(OSError):
            os.utime(folder)
        return features, manifest.remarks

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
        ownership.mark(self.root)
        scratch = self._scratch()
        final = self._folder(request.key)
        make_folder(final.parent, self.root)
        for _, left in ownership.left_behind(self.root, request.key):
            ownership.remove(left)  # whoever wrote it no longer holds the lock
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
                for path in (*folder.iterdir(), folder):
                    share(path, self.root)
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
        found = [self._entry(folder) for folder in ownership.entry_folders(self.root)]
        yield from sorted(found, key=lambda kept: kept.used)

    def verify(self) -> Iterator[Entry]:
        """Every entry with its bytes compared; what is wrong stands in ``problem``."""
        for kept in self.entries():
            problem = kept.problem
            if kept.manifest is not None:
                with self._lock(kept.key):  # where that is refused nobody else writes either
                    try:
                        entry.check(self._folder(kept.key), kept.manifest)
                    except Damaged as error:
                        problem = str(error)
            yield replace(kept, problem=problem)

    def remove(self, key: str) -> bool:
        """Remove the entry of a key; waits for a process that is writing it.

        Returns:
            Whether it is gone: what is of a later version, or no entry, is left.

        Raises:
            OSError: The folder may not be written.
        """
        self._adopt()
        with self._lock(key) as refused:
            if refused is not None:
                raise refused
            return self._discard(self._folder(key))

    def trim(self, limit: int | None = None) -> list[Entry]:
        """Remove the least recently used entries until the rest fits the limit.

        Entries another process is writing or checking are left alone; one that is being read stays
        readable there until it is closed. Entries of a later version count for nothing.
        """
        self._adopt()
        known = [kept for kept in self.entries() if not kept.newer]
        excess = sum(kept.size for kept in known) - (self.limit if limit is None else limit)
        removed = []
        for kept in known:
            if excess <= 0:
                break
            with suppress(Timeout), self._file_lock(kept.key).acquire(timeout=0):
                if self._discard(self._folder(kept.key)):
                    removed.append(kept)
                    excess -= kept.size
        self._sweep()
        return removed

    def _adopt(self) -> None:
        """Mark a folder that an earlier version has filled; one without entries stays unmarked."""
        if any(kept.manifest is not None for kept in self.entries()):
            ownership.mark(self.root)

    def _sweep(self) -> None:
        """Take away what processes that were killed left half-written."""
        if not ownership.is_marked(self.root):
            return
        for key, left in ownership.left_behind(self.root):
            with suppress(Timeout), self._file_lock(key).acquire(timeout=0):
                ownership.remove(left)

    def _make_room(self, size: int) -> None:
        """Remove old entries when the disk would not hold the new one; ``OSError`` if too few."""
        while shutil.disk_usage(self.root).free < size * 1.02 + 2**20:
            known = sum(kept.size for kept in self.entries() if not kept.newer)
            if not known or not self.trim(max(0, known - size)):
                raise OSError(f"{size / 2**20:.0f} MB do not fit the disk of {self.root}")

    def _entry(self, folder: Path) -> Entry:
        size = used = 0.0
        newer = False
        try:
            used = folder.stat().st_mtime
            size = sum(path.lstat().st_size for path in folder.glob("*.npy"))
            manifest = entry.read_manifest(folder)
            if manifest.key == folder.name:
                return Entry(folder.name, manifest, int(size), used)
            problem = f"its manifest is of another key, {manifest.key[:12]}"
        except (Damaged, Newer, OSError) as error:
            newer, problem = isinstance(error, Newer), str(error)
        return Entry(folder.name, None, int(size), used if newer else 0.0, problem, newer)

    def _folder(self, key: str) -> Path:
        return self.root / key[:2] / key

    def _clear(self, folder: Path) -> Path | None:
        """Make way for an entry; returns where what is not the store's was moved to."""
        if not os.path.lexists(folder) or self._discard(folder, marked=True):
            return None
        return ownership.set_aside(folder, self.root)

    def _discard(self, folder: Path, *, marked: bool = False) -> bool:
        """Take an entry away in one step, so that nobody sees half of it.

        Args:
            folder: Its place.
            marked: Whether the folder of the store may be marked for it.

        Returns:
            Whether it was an entry, and one to remove.
        """
        self._checked.pop(folder.name, None)
        if marked:
            ownership.mark(self.root)
        if not (ownership.is_marked(self.root) and ownership.is_entry(folder)):
            return False
        if self._entry(folder).newer:
            return False
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=self._scratch()))
        with suppress(FileNotFoundError):
            os.replace(folder, aside / "entry")
        ownership.remove(aside)
        return True

    def _scratch(self) -> Path:
        make_folder(self.root / SCRATCH, self.root)
        return self.root / SCRATCH

    @contextmanager
    def _lock(
        self, key: str, waiting: Callable[[], None] = lambda: None
    ) -> Iterator[OSError | None]:
        """Hold a key alone; gives the reason where the folder does not let itself be locked."""
        refused: OSError | None = None
        lock: FileLock | None = None
        try:
            lock = self._file_lock(key)
            lock.acquire(timeout=1)
        except Timeout:
            waiting()
            assert lock is not None
            lock.acquire()
        except OSError as error:
            refused = error
        try:
            yield refused
        finally:
            if lock is not None:
                lock.release()

    def _file_lock(self, key: str) -> FileLock:
        make_folder(self.root / "locks", self.root)
        return shared_lock(self.root / "locks" / f"{key}.lock")


def _unstored(
    batches: Batches, remark: Callable[[str], None], found_out: Callable[[], Sequence[str]]
) -> Features:
    """Features that are kept in memory alone."""
    features = Features([np.concatenate(list(batches()))])
    for text in found_out():
        remark(text)
    return features


def _same(stored: tuple[float, ...], now: tuple[float, ...]) -> bool:
    """Equal but for rounding: other threads or devices may add in another order."""
    if len(stored) != len(now):
        return False
    scale = max(map(abs, stored), default=0.0)
    return all(abs(a - b) <= 1e-3 * scale for a, b in zip(stored, now, strict=True))
