"""Writing in a folder of reference files: one process at a time, whole, nothing left behind.

The lock lies in the folder itself, so that all who write there meet at it, whatever their temporary
folder is. It is gone when nobody writes, because the folder is under version control.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bob.errors import BobError
from bob.shared_folders import share, shared_lock

LOCK = ".bob-references.lock"
WRITING = ".bob-writing"
"""Ending of a file on its way; one that a killed session left goes when the next one writes."""
WAIT_SECONDS = 120.0
_PAUSE_SECONDS = 0.02
_MOST_MISSING = 50


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder alone among all processes; it is created where it is missing.

    What killed sessions left there is removed.

    Args:
        folder: Of reference files; several processes may ask for it at once.

    Raises:
        BobError: The folder cannot be written or locked, or another process holds it for long.
    """
    with _locked(folder):
        with suppress(OSError):
            for left in folder.glob(f".*{WRITING}"):
                left.unlink()
        yield


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one step; whoever writes holds its folder alone.

    A link stays one, and what it leads to is replaced.

    Raises:
        BobError: It cannot be written; the file is as it was.
    """
    path = _followed(path)
    fresh = path.with_name(f".{path.name}{WRITING}")
    _refuse_read_only(path)
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        share(fresh, path.parent)
        os.replace(fresh, path)
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        with suppress(OSError):
            fresh.unlink()


def check_writable(paths: Iterable[Path]) -> None:
    """Learn before anything is trained whether reference files can be written.

    It is tried: the folder is locked and a file is written there. Nothing stays behind.

    Args:
        paths: Files that may be written; they and their folders need not exist.

    Raises:
        BobError: One cannot be written.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        for place in {path, _followed(path)}:
            by_folder.setdefault(place.parent, []).append(place)
    for folder, files in by_folder.items():
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            for file in files:
                _refuse_read_only(file)
            with alone_in(folder):
                probe = folder / f".probe{WRITING}"
                probe.write_text("")
                probe.unlink()
        except OSError as error:
            raise _refused(folder, error) from None
        finally:
            for place in missing:
                with suppress(OSError):
                    place.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / LOCK
    if os.name == "nt":
        folder.mkdir(parents=True, exist_ok=True)
        with shared_lock(path).acquire(timeout=WAIT_SECONDS):  # removes its file itself
            yield
        return
    try:
        handle = _acquire(path)
    except OSError as error:
        raise _refused(folder, error) from None
    try:
        yield
    finally:
        # while it is held: whoever waits for it sees that it is gone, and makes a new one
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int:
    """A handle of the lock file that ``path`` names, locked."""
    deadline = time.monotonic() + WAIT_SECONDS
    missing = 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            with suppress(FileNotFoundError):
                share(handle, path.parent)
            if _locks(path, handle):
                return handle
        except FileNotFoundError:  # a session that only tried has removed the empty folder
            missing += 1
            if missing > _MOST_MISSING:  # or nothing can be made in it
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process has held {path} for {WAIT_SECONDS:.0f} s")
        time.sleep(_PAUSE_SECONDS)


def _locks(path: Path, handle: int) -> bool:
    """Lock a file without waiting; closes it where that cannot be."""
    import fcntl

    locked = False
    try:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = _is_there(path, handle)
    finally:
        if not locked:
            os.close(handle)
    return locked


def _is_there(path: Path, handle: int) -> bool:
    """Whether the locked file is still the one of that name, or its holder has removed it.

    The name is opened rather than looked up: NFS asks the server then.
    """
    try:
        named = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return os.path.samestat(os.fstat(named), os.fstat(handle))
    finally:
        os.close(named)


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _refuse_read_only(path: Path) -> None:
    """A file that somebody made read-only is not replaced, although its folder would allow it.

    What is no file cannot be replaced.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise BobError(
            f"Cannot write reference file {path}: something that is no file has its name. Move it "
            "away, or choose another folder with --references=DIR."
        )
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise BobError(
            f"Cannot write reference file {path}: it is read-only. Make it writable, or choose "
            "another folder with --references=DIR."
        )


def _refused(path: Path, error: OSError) -> BobError:
    return BobError(
        f"Cannot write references in {path}: {error.strerror or error}. Make the folder writable, "
        "or choose another one with --references=DIR."
    )
