"""One process at a time fetches a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from bob.shared_folders import shared_lock


@contextmanager
def locked(path: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Hold a lock that ends with the process at the latest.

    Args:
        path: Of the lock file, in a folder that is there.
        say: Told once where another process holds it and is waited for.

    Raises:
        OSError: The folder cannot be written to.
    """
    lock = shared_lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is fetching {path.stem}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
