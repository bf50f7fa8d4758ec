"""A store that is only read: it is never made, and a copy is read of one that is not ours."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bob.errors import BobError, did_you_mean
from bob.shown import line
from bob.tracking.destination import Destination, check_file, check_reachable, sqlite_uri
from bob.tracking.locks import lock_of

_WAIT_SECONDS = 60.0
"""How long somebody who is writing is waited for."""


def is_made(store: Destination) -> bool:
    """Whether there is anything to read; a server is asked when it is read.

    Raises:
        BobError: A folder, device or pipe has the name of a SQLite store, or nobody can tell.
    """
    if store.database is None:
        return True
    try:
        check_file(store.database)
        return store.database.exists() and store.database.stat().st_size > 0
    except OSError as error:
        raise BobError(
            f"Cannot look for the MLflow store {store.database} ({error.strerror}). Name another "
            "with --tracking-uri=URI, or ask the owner of its folder to let you read it."
        ) from None


@contextmanager
def readable(store: Destination) -> Iterator[Destination]:
    """Give the store itself, or where it cannot be written to a copy without its artifacts.

    MLflow opens a SQLite file for writing, brings its schema up to date and takes a lock beside it.

    Args:
        store: What is to be read.

    Raises:
        BobError: There is no such store, it cannot be read, or its server does not answer.
    """
    if not is_made(store):
        assert store.database is not None
        folder = store.database.parent
        names = [path.name for path in folder.glob("*.db")] if folder.is_dir() else []
        raise BobError(
            f"There is no MLflow store at {store.database}; nothing was made there. Run the suite "
            f"first, or name another. {did_you_mean(store.database.name, names)}".strip()
        )
    if store.database is None:
        check_reachable(store)
        yield store
        return
    if _is_ours(store.database):
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="bob-store-") as name:
        copy = Path(name) / "mlflow.db"
        _copy(store.database, copy)
        try:
            yield replace(store, uri=sqlite_uri(copy), database=copy)
        except BobError as error:
            if str(copy) not in str(error):
                raise
            raise BobError(
                f"The MLflow store {store.database} cannot be used: it is damaged, or of another "
                "version of MLflow. It is not yours: ask its owner."
            ) from error


def _is_ours(database: Path) -> bool:
    """Whether the file can be written to, its lock, and files beside it."""
    files = [path for path in (database, lock_of(database)) if path.exists()]
    effective = os.access in os.supports_effective_ids
    return all(
        os.access(path, os.W_OK, effective_ids=effective) for path in (database.parent, *files)
    )


def _copy(database: Path, copy: Path) -> None:
    address = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            # a backup alone would wait for a writer without end
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master")
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        says = line(str(error))
        remedy = next(
            (text for words, text in _REMEDIES.items() if words in says),
            f"If it is whole, look whether {copy.parent} has room for a copy of it.",
        )
        raise BobError(f"Cannot read the MLflow store {database} ({says}). {remedy}") from None


_REMEDIES = {
    "unable to open": "Ask its owner to let you read it.",
    "locked": "Somebody is writing to it: wait until that has ended, and try again.",
    "not a database": "It is no whole database: name another.",
    "malformed": "It is damaged: ask its owner.",
}
"""What to do by what SQLite says."""
