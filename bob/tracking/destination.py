"""Where runs are recorded, and whether that place can be written to."""

from __future__ import annotations

import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, unquote

from bob.errors import BobError
from bob.tracking.patience import StoreSilentError, within

_REACH_SECONDS = 5
_SQLITE = ("sqlite:///", "sqlite+pysqlite:///")
_PLAIN = re.compile(r"[\w/ .,+=@:~()\\-]*")


@dataclass(frozen=True)
class Destination:
    """Where runs are recorded.

    Attributes:
        uri: MLflow tracking URI.
        artifacts: Folder for artifacts of a local store; none lets the server choose.
        ledger: Folder where every result is kept before it is sent.
        database: File of a SQLite store.
        own: Whether it is the project's own store, which nobody named.
    """

    uri: str
    artifacts: Path | None
    ledger: Path
    database: Path | None = None
    own: bool = False


def resolve_store(root: Path, uri: str | None) -> Destination:
    """The store for a tracking URI; by default ``mlruns/mlflow.db`` under ``root``.

    What stands behind ``sqlite:///`` is a path; a relative one is taken from ``root``.

    Raises:
        BobError: The URI names a folder, or a database whose path cannot be written as an address.
    """
    local = root / "mlruns"
    if not uri:
        return _local(local / "mlflow.db", local / "ledger", own=True)
    prefix = next((prefix for prefix in _SQLITE if uri.startswith(prefix)), None)
    if prefix is not None:
        path = _named(root, uri.removeprefix(prefix), uri, encoded=prefix != _SQLITE[0])
        return _local(path, local / "ledger", own=path == local / "mlflow.db")
    if "://" not in uri and uri != "databricks":
        raise BobError(
            f"Tracking URI {uri!r} is a folder; MLflow's file store is no longer supported. Use "
            f"sqlite:///{uri.rstrip('/')}/mlflow.db or the address of a server."
        )
    return Destination(uri, None, local / "ledger")


def artifact_folder(artifacts: Path, experiment: str) -> Path:
    """Where artifacts of an experiment are kept in a local store, absolute."""
    return (artifacts / experiment.replace("/", "-")).absolute()


def _local(database: Path, ledger: Path, *, own: bool) -> Destination:
    return Destination(
        sqlite_uri(database), database.parent / "artifacts", ledger, database=database, own=own
    )


def sqlite_uri(database: Path) -> str:
    """The tracking URI of a SQLite file, whatever its path holds.

    In an address ``?`` begins options and ``%20`` is a space. Such a path is written
    percent-encoded, under the driver's name: MLflow creates the folder that a text behind
    ``sqlite:///`` names as it stands.

    Raises:
        BobError: The path is not text, or the installed SQLAlchemy cannot be told it.
    """
    text = str(database)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BobError(
            f"The path {text!a} of the MLflow store is not text in UTF-8, and MLflow cannot "
            "be told it. Rename the folder, or record elsewhere with "
            "--tracking-uri=sqlite:////path/mlflow.db."
        ) from None
    plain = f"sqlite:///{text}"
    if _PLAIN.fullmatch(text):
        return plain
    from sqlalchemy.engine import make_url

    for uri in (f"{_SQLITE[1]}{quote(text)}", plain):
        if make_url(uri).database == text:
            return uri
    raise BobError(
        f"The path {text!r} of the MLflow store cannot be written as an address. Rename the "
        "folder, or record elsewhere with --tracking-uri=sqlite:////path/mlflow.db."
    )


def _named(root: Path, text: str, uri: str, *, encoded: bool) -> Path:
    """The file that a SQLite address names, as it stands or percent-encoded."""
    literal, decoded = root / text, root / unquote(text)
    if not text or literal == root:
        raise BobError(f"Tracking URI {uri!r} names no file. Write sqlite:////path/mlflow.db.")
    if encoded or (decoded.parent.is_dir() and not literal.parent.is_dir()):
        return decoded
    if re.search(r"\?\w+=", literal.name) or ("?" in text and not literal.parent.is_dir()):
        raise BobError(
            f"Tracking URI {uri!r}: options behind `?` are not taken. Write the path of the "
            "database alone; a folder whose name holds `?` has to exist."
        )
    return literal


def check_reachable(store: Destination) -> None:
    """Fail now rather than after training.

    Raises:
        BobError: The server does not answer, or the folder of the database is not writable.
    """
    if store.uri.startswith(("http://", "https://")):
        _check_server(store.uri)
    elif store.database is not None:
        _check_folder(store.database)


def _check_server(uri: str) -> None:
    def look() -> None:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_REACH_SECONDS):
            return

    try:
        within(2 * _REACH_SECONDS, look)
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, HTTPException, StoreSilentError) as error:
        reason = getattr(error, "reason", error)
        raise BobError(
            f"The tracking server {uri} does not answer ({reason}). Nothing was run. Start it, "
            "correct MLFLOW_TRACKING_URI or --tracking-uri, or leave both out to record locally."
        ) from None


def _check_folder(database: Path) -> None:
    folder = database.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable"):
            pass
        if database.exists():
            with database.open("r+b"):
                pass
    except OSError as error:
        raise BobError(
            f"Cannot write to {folder} ({error.strerror or error}). Nothing was run. Make it "
            "writable, or record elsewhere with --tracking-uri=sqlite:////path/mlflow.db."
        ) from None
