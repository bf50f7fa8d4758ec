"""Where runs are recorded, and whether that place can be written to."""

from __future__ import annotations

import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from bob.errors import BobError
from bob.tracking.patience import StoreSilentError, within

_REACH_SECONDS = 5


@dataclass(frozen=True)
class Destination:
    """Where runs are recorded.

    Attributes:
        uri: MLflow tracking URI.
        artifacts: Folder for artifacts of a local store; none lets the server choose.
        ledger: Folder where every result is kept before it is sent.
    """

    uri: str
    artifacts: Path | None
    ledger: Path


def resolve_store(root: Path, uri: str | None) -> Destination:
    """The store for a tracking URI; by default ``mlruns/mlflow.db`` under ``root``.

    Relative SQLite paths are taken from ``root``.
    """
    local = root / "mlruns"
    if not uri:
        uri = f"sqlite:///{local / 'mlflow.db'}"
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        path = path if path.is_absolute() else root / path
        return Destination(f"sqlite:///{path}", path.parent / "artifacts", local / "ledger")
    if "://" not in uri and uri != "databricks":
        raise BobError(
            f"Tracking URI {uri!r} is a folder; MLflow's file store is no longer supported. Use "
            f"sqlite:///{uri.rstrip('/')}/mlflow.db or the address of a server."
        )
    return Destination(uri, None, local / "ledger")


def check_reachable(store: Destination) -> None:
    """Fail now rather than after training.

    Raises:
        BobError: The server does not answer, or the folder of the database is not writable.
    """
    if store.uri.startswith(("http://", "https://")):
        _check_server(store.uri)
    elif store.uri.startswith("sqlite:///"):
        _check_folder(Path(store.uri.removeprefix("sqlite:///")))


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
            "writable, or record elsewhere with --tracking-uri sqlite:////path/mlflow.db."
        ) from None
