"""A case on a node of a Ray cluster: in a process of its own, watched by the node's Ray worker."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bob.executors import Event, Finished, Submission
from bob.executors.process import ProcessExecutor

_supervisor: ProcessExecutor | None = None
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Origin:
    """What a case finds where pytest runs, and shall find on its node.

    Attributes:
        path: ``sys.path``.
        folder: Working directory.
        environment: Variables.
    """

    path: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]


def run_on_node(submission: Submission, origin: Origin) -> Iterator[tuple[str, Event]]:
    """Run a case in a process of its own.

    Ray keeps this process for further cases, and with it the one that cases are forked from.

    Args:
        submission: The case.
        origin: Of the session.

    Yields:
        The node's id and an event.
    """
    import ray

    global _supervisor
    node = ray.get_runtime_context().get_node_id()
    _resemble(origin)
    if _supervisor is None:
        threading.Thread(target=_end_with_node, args=(os.getppid(),), daemon=True).start()
        _supervisor = ProcessExecutor()
    supervisor, events = _supervisor, list[Event]()
    supervisor.submit(submission)
    try:
        while not any(isinstance(event, Finished) for event in events):
            events.clear()
            supervisor.advance(events.append, waiting_for=submission.ticket)
            for event in events:
                yield node, event
    finally:  # a cancelled task is interrupted
        supervisor.cancel([submission.ticket])


def _end_with_node(raylet: int) -> None:
    """End, and with this process its case, when the node's process has: Ray leaves it alone.

    The case begins again elsewhere, while an orphan would hold cores and memory here.
    """
    while os.getppid() == raylet:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _resemble(origin: Origin) -> None:
    """Take over paths and variables, and keep what Ray gave this process."""
    sys.path += [place for place in origin.path if place not in sys.path]
    for name, value in origin.environment.items():
        os.environ.setdefault(name, value)
    if os.path.isdir(origin.folder):
        os.chdir(origin.folder)
