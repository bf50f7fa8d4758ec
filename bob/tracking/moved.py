"""Stores in SQLite that were moved with their folder.

MLflow writes absolute addresses into its database: where an experiment's artifacts go and where
those of each run are. In a project that was copied or moved they still name the old folder, which
MLflow would create anew and fill. MLflow has no call that changes them.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bob.errors import BobError
from bob.tracking.destination import Destination, artifact_folder
from bob.tracking.opening import broken

_OWN = "bob/%"


def settle(store: Destination) -> list[str]:
    """Bring the addresses of a store that was moved to where it is now.

    Only addresses that bob itself gave are changed: ``artifacts/<experiment>`` beside a database.
    They are changed in one transaction, with those of the runs, so that artifacts that came along
    open again. A store on a server and one whose experiments are kept elsewhere on purpose stay as
    they are.

    Args:
        store: Where runs are about to be recorded.

    Returns:
        What was changed, in words.

    Raises:
        BobError: The project's own store keeps artifacts outside of its folder, or it was moved and
            its database cannot be changed.
    """
    if store.database is None or store.artifacts is None or not store.database.is_file():
        return []
    try:
        with closing(sqlite3.connect(store.database, timeout=60)) as database:
            moved = _moved(database, store)
            if moved:
                with database:
                    for experiment, name, old in moved:
                        _rewrite(database, experiment, old, artifact_folder(store.artifacts, name))
    except sqlite3.Error as error:
        unfit = broken(store, error)
        if unfit is not None:
            raise BobError(f"{unfit} Nothing was run.") from None
        raise BobError(
            f"{store.database} was moved, and the addresses of its artifacts cannot be changed "
            f"({error}). Nothing was run. Make it writable, or record to a new store with "
            "--tracking-uri=sqlite:////path/mlflow.db."
        ) from None
    if not moved:
        return []
    before = sorted({str(old.parent) for _, _, old in moved})
    return [
        f"This store was moved: artifacts of {len(moved)} experiments were kept under "
        f"{', '.join(before)} and are now under {store.artifacts}."
    ]


def _moved(database: sqlite3.Connection, store: Destination) -> list[tuple[int, str, Path]]:
    """Id, name and old folder of every experiment that was elsewhere."""
    assert store.artifacts is not None
    tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'experiments'")
    if tables.fetchone() is None:
        return []
    rows = database.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments WHERE name LIKE ?", (_OWN,)
    ).fetchall()
    found = []
    for experiment, name, location in rows:
        expected, folder = artifact_folder(store.artifacts, name), _folder(location or "")
        if folder is None or _same(folder, expected):
            continue
        if folder.name == expected.name and folder.parent.name == store.artifacts.name:
            found.append((experiment, name, folder))
        elif store.own:
            raise BobError(
                f"Artifacts of experiment {name!r} in {store.database} are kept under {folder}, "
                f"outside of this project, and not under {expected}. Nothing was run. Move that "
                "database away, run, and send the results of the ledger with `bob sync`; or name "
                f"the store with --tracking-uri={store.uri}, so that they go on being kept there."
            )
    return found


def _rewrite(database: sqlite3.Connection, experiment: int, old: Path, new: Path) -> None:
    database.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
        (new.as_uri(), experiment),
    )
    rows = database.execute(
        "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?", (experiment,)
    ).fetchall()
    for run, uri in rows:
        folder = _folder(uri or "")
        if folder is not None and folder.is_relative_to(old):
            database.execute(
                "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
                ((new / folder.relative_to(old)).as_uri(), run),
            )


def _folder(location: str) -> Path | None:
    """The folder an address names; none where it is not one of this machine."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def _same(first: Path, second: Path) -> bool:
    """Whether two paths are one place, through links too."""
    return first == second or first.resolve() == second.resolve()
