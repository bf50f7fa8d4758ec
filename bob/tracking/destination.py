"""Where runs are recorded, and whether that place can be written to."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from bob.errors import BobError, first_line
from bob.redaction import PASSWORD, TOKEN, USERNAME, password_word
from bob.startup import importing
from bob.tracking.locks import check_lock, lock_of, turn_of
from bob.tracking.login import access_of
from bob.tracking.patience import StoreSilentError, bounded, within

_REACH_SECONDS = 5
_SQLITE = ("sqlite:///", "sqlite+pysqlite:///")
_PLAIN = re.compile(r"[\w/ .,+=@:~()\\-]*")


@dataclass(frozen=True)
class Destination:
    """Where runs are recorded.

    Attributes:
        uri: MLflow tracking URI; its password is taken out, into ``address`` or ``variables``.
        artifacts: Folder for artifacts of a local store; none lets the server choose.
        ledger: Folder where every result is kept before it is sent.
        database: File of a SQLite store.
        own: Whether it is the project's own store, which nobody named.
        address: The URI as MLflow is told it.
        variables: MLflow's environment variables for calls to it: a login that the URI has.
        word: Where the password belongs that ``uri`` lacks; empty where it lacks none.
    """

    uri: str
    artifacts: Path | None
    ledger: Path
    database: Path | None = None
    own: bool = False
    address: str = field(init=False, repr=False)
    variables: Mapping[str, str] = field(init=False, repr=False)
    word: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        access = access_of(self.uri)
        object.__setattr__(self, "word", password_word(self.uri))
        object.__setattr__(self, "uri", access.shown)
        object.__setattr__(self, "address", access.address)
        object.__setattr__(self, "variables", access.variables)

    @property
    def remote(self) -> bool:
        """Whether it is a server."""
        return self.uri.startswith(("http://", "https://"))


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
        BobError: The server does not answer, or the folder of the database is not writable, or a
            lock beside it.
    """
    if store.remote:
        _check_server(store)
    elif store.database is not None:
        _check_folder(store.database)


def _check_server(store: Destination) -> None:
    """Ask the server whether it is well, as MLflow asks: with its login, certificates and proxy."""
    with warnings.catch_warnings(), importing():
        warnings.simplefilter("ignore")
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

    def look() -> int:
        status: int = http_request(
            get_default_host_creds(store.address), "/health", "GET", max_retries=0,
            timeout=_REACH_SECONDS, raise_on_status=False,
        ).status_code  # fmt: skip
        return status

    try:
        with bounded(store.variables):
            status = within(2 * _REACH_SECONDS, look)
    except Exception as error:
        raise BobError(
            f"The tracking server {store.uri} does not answer ({_reason(error)}). Nothing was run. "
            "Start it, correct MLFLOW_TRACKING_URI or --tracking-uri, or leave both out to record "
            "locally."
        ) from None
    if status == 401:
        raise BobError(
            f"The tracking server {store.uri} refuses the login, or wants one (401). Nothing was "
            f"run. Put user and password into {USERNAME} and {PASSWORD}, or a token into {TOKEN}."
        )


def _reason(error: BaseException) -> str:
    """The first of the errors that led to this one; those above it wrap its words in their own."""
    while not isinstance(error, StoreSilentError):
        below = error.__cause__ or error.__context__
        if below is None:
            break
        error = below
    return first_line(error)


def check_file(database: Path) -> None:
    """Refuse a store whose name a folder, device or pipe has.

    Raises:
        BobError: One has.
    """
    if database.exists() and not database.is_file():
        raise BobError(
            f"The MLflow store {database} cannot be used: it is no file. Nothing was run. Name "
            "another with --tracking-uri=URI."
        )


def _check_folder(database: Path) -> None:
    check_file(database)
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
    for path in (lock_of(database), turn_of(database)):
        try:
            check_lock(path)
        except BobError as error:
            raise BobError(f"{error} Nothing was run.") from None
