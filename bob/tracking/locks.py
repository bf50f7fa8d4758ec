"""Lock files of stores: held, waited for a bounded time, and named where they cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bob.errors import BobError
from bob.shared_folders import shared_lock


def lock_of(database: Path) -> Path:
    """What whoever opens a SQLite store holds."""
    return Path(f"{database}.lock")


def turn_of(path: Path) -> Path:
    """What whoever sends earlier results holds: beside a SQLite file, or in a ledger."""
    return Path(f"{path}.turn")


@contextmanager
def held(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock. Whoever may use its folder, which is made, may use its file too.

    Args:
        path: Of its file.
        seconds: How long another process that has it is waited for.

    Raises:
        BobError: It cannot be used, or another process has had it all that time.
    """
    try:
        lock = _acquired(path, seconds)
    except Timeout:
        raise BobError(
            f"Another process has held {path} for {seconds:.0f} s. Wait until it has ended, or end "
            "it, and try again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_lock(path: Path) -> None:
    """Fail where a lock that is there cannot be used; one that another process holds can be.

    Raises:
        BobError: Says why, and what to do.
    """
    if os.path.lexists(path):
        with suppress(Timeout):
            _acquired(path, 0).release()


def _acquired(path: Path, seconds: float) -> FileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = shared_lock(path)
        lock.acquire(timeout=seconds)
    except Timeout:
        raise
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror or str(error)
        raise BobError(
            f"The lock {path} of the MLflow store cannot be used ({why}). It holds no result: "
            "remove it while nobody records there, or ask its owner to. Otherwise record "
            "elsewhere with --tracking-uri=sqlite:////path/mlflow.db."
        ) from None
    return lock
