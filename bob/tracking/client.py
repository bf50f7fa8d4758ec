"""MLflow's client of a store: imported, opened, and its schema made where it is missing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bob import interrupts
from bob.startup import importing
from bob.tracking.destination import Destination
from bob.tracking.locks import held, lock_of, turn_of
from bob.tracking.opening import broken, make_missing
from bob.tracking.patience import Patience

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_client(store: Destination, patience: Patience) -> MlflowClient:
    """The client of a store that answers.

    Args:
        store: Where.
        patience: How long it may keep the caller waiting.

    Raises:
        BobError: The file of a SQLite store cannot be used.
        Exception: Whatever MLflow raises of a store that does not answer.
    """
    # MLflow's own use of SQLAlchemy warns at import; nobody here can act on it.
    with warnings.catch_warnings(), importing():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            return _open(MlflowClient, store, patience)
        except Exception as error:
            unfit = broken(store, error)
            if unfit is None:
                raise
            raise unfit from error


@contextmanager
def alone(store: Destination) -> Iterator[None]:
    """Of sessions that start at once in an empty folder one makes the store of all.

    Raises:
        BobError: The lock cannot be used, or another process has had it for five minutes.
    """
    if store.database is None:
        yield
        return
    with held(lock_of(store.database), seconds=300):
        yield


@contextmanager
def in_turn(store: Destination) -> Iterator[None]:
    """Of sessions that send earlier results at once, one does so at a time.

    Those wait for each other that share a SQLite file, or the ledger whose results go to a server.

    Raises:
        BobError: The lock cannot be used, or another one has been at it for a minute.
    """
    with held(turn_of(store.database or store.ledger / "sending"), seconds=60):
        yield


def _open(
    make: Callable[..., MlflowClient], store: Destination, patience: Patience
) -> MlflowClient:
    with alone(store):
        if store.database is not None:
            store.database.parent.mkdir(parents=True, exist_ok=True)
            make_missing(store.database, partial(_opened, make))
        # MLflow may bring an older schema up to date, which takes long, and must not be cut off
        with interrupts.held():
            return patience.ask(
                lambda: _opened(make, store.address),
                extra=0.0 if store.remote else None,
                environment=store.variables,
            )


def _opened(make: Callable[..., MlflowClient], uri: str) -> MlflowClient:
    client = make(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client
