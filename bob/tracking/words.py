"""What the end of a session says of its record in MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from bob.redaction import without_password
from bob.tracking.tracker import Tracker

_UI = "http://127.0.0.1:5000"


def where_recorded(tracker: Tracker, tasks: Iterable[str]) -> list[str]:
    """Lines on where the record is: the store, how to look at it, a page for each task."""
    store = tracker.store
    lines = [f"MLflow: session {tracker.session} in {store.uri}"]
    address = without_password(store.address).rstrip("/")
    if not store.remote:
        lines += [f"  mlflow ui --backend-store-uri {shlex.quote(store.uri)}", *_word(tracker)]
        address = _UI
    lines += [f"  {task}: {address}{tracker.page(task)}" for task in sorted(set(tasks))]
    return [*lines, *tracker.notes]


def what_is_missing(tracker: Tracker, *, lost: bool) -> list[str]:
    """Lines on what MLflow does not have, and the command that sends it.

    Args:
        tracker: Of the session; it has problems.
        lost: Whether some results are not on disk either.
    """
    kept = "The other results" if lost else "Nothing is lost: results"
    return [
        *tracker.problems,
        f"{kept} are under {tracker.store.ledger}. Send them with",
        f"  bob sync --tracking-uri={shlex.quote(tracker.store.uri)}",
        *_word(tracker),
    ]


def _word(tracker: Tracker) -> list[str]:
    return [f"    ({tracker.store.word})"] if tracker.store.word else []
