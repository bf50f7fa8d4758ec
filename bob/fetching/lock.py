"""One process at a time fetches a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bob.errors import BobError


@contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock that ends with the process at the latest.

    Args:
        path: Of the lock file.
        say: Told once where another process holds it and is waited for.

    Raises:
        BobError: The folder cannot be written to.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another process is fetching {path.stem}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise cannot_write(path.parent, error) from None
    try:
        yield
    finally:
        lock.release()


def cannot_write(folder: Path, error: OSError) -> BobError:
    """The error of a data root that is read-only."""
    return BobError(
        f"Cannot write to {folder} ({error.strerror or error}). Name a data root that you may "
        "write to in BOB_DATA."
    )
