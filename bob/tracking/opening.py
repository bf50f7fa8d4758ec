"""A SQLite store that is opened: made whole or not at all, and named where it is broken.

MLflow makes a new database in some fifty steps, each in a transaction of its own. Whoever is ended
in between leaves a file that MLflow can neither use nor repair.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bob.errors import BobError
from bob.shown import line
from bob.tracking.destination import Destination, check_file, sqlite_uri

_UNFIT = re.compile(
    r"already exists|out-of-date|no such (table|column)|can't locate revision|multiple head"
    r"|not a database|malformed|unexpected state|duplicate column",
    re.IGNORECASE,
)
"""What SQLite, alembic and MLflow say of a file that no later try can use."""
_SQLITE_SAYS = re.compile(r"\(sqlite3\.\w+\) ([^\n\[]+[^\s\[])")


def make_missing(database: Path, create: Callable[[str], object]) -> None:
    """Make a SQLite store that is not there, in one step for everybody who looks.

    The caller holds the lock of the store.

    Args:
        database: Where it shall be. An empty file counts as none: it is what SQLite leaves behind
            where nothing was written.
        create: Makes the schema in the store of a URI.

    Raises:
        BobError: A folder, device or pipe has its name.
    """
    if os.path.lexists(database):
        database = Path(os.path.realpath(database))
    _drop_unfinished(database)
    check_file(database)  # a new store takes its place, be it /dev/null
    if database.exists() and database.stat().st_size:
        return
    folder = Path(tempfile.mkdtemp(prefix=_prefix(database), dir=database.parent))
    try:
        create(sqlite_uri(folder / "made.db"))
        whole = folder / "whole.db"
        # a copy, because MLflow keeps connections to the file that it has made
        with (
            closing(sqlite3.connect(folder / "made.db")) as made,
            closing(sqlite3.connect(whole)) as copy,
        ):
            made.backup(copy)
        os.replace(whole, database)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def broken(store: Destination, error: Exception) -> BobError | None:
    """What is wrong with a SQLite store that cannot be used, and what to do.

    Args:
        store: What was opened.
        error: What came of it.

    Returns:
        The error for the user; none where the file is not at fault, or nothing says so.
    """
    database = store.database
    if database is None or not _UNFIT.search(str(error)):
        return None
    what = f"The MLflow store {database} cannot be used ({line(str(error), limit=200)})."
    moved = f"mv {database} {database}.broken"
    rest = (
        f"Results are not lost: they stand in {store.ledger}. The next session, or `bob sync`, "
        "makes a new store, and `bob sync` fills it from there."
    )
    runs = _runs(database)
    if runs:
        return BobError(
            f"{what} It holds {runs} runs, and another version of MLflow has made it, or it is "
            f"damaged. Copy it, then try `mlflow db upgrade {sqlite_uri(database)}`. If that does "
            f"not help, move it away: `{moved}`. {rest}"
        )
    why = (
        "It is no whole database."
        if runs is None
        else "It holds no run: whoever was making it was probably ended meanwhile."
    )
    return BobError(f"{what} {why} Move it away: `{moved}`. {rest}")


def words_of(error: Exception) -> str:
    """What an error of a store says, on one line; of SQLAlchemy's pages the database's own word."""
    text = f"{type(error).__name__}: {error}"
    found = _SQLITE_SAYS.search(text)
    return line(f"{type(error).__name__}: {found[1]}" if found else text)


def _runs(database: Path) -> int | None:
    """How many runs a file holds; none where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as file:
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
            if "runs" not in tables:
                return 0
            return int(file.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return None


def _prefix(database: Path) -> str:
    return f".{database.name}.making-"


def _drop_unfinished(database: Path) -> None:
    """Remove what somebody left who was killed; the lock says that nobody is at it."""
    for folder in database.parent.iterdir():
        if folder.name.startswith(_prefix(database)):
            shutil.rmtree(folder, ignore_errors=True)
