"""An executor of acme's own: a thread runs cases while the caller waits for events."""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection
from pathlib import Path

from bob.executors import Deliver, Event, Finished, Progressed, Started, Submission
from bob.run import run_case


class ThreadExecutor:
    """Runs cases in the order they were submitted, in a thread of its own.

    Args:
        journal: File that gets a line for every case that ends.
    """

    def __init__(self, *, journal: str = "") -> None:
        self._journal = Path(journal) if journal else None
        self._waiting: queue.Queue[Submission | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        self._cancelled: set[str] = set()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, submission: Submission) -> None:
        """Queue a case."""
        self._waiting.put(submission)

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Deliver the next event, or nothing after half a second."""
        try:
            deliver(self._events.get(timeout=0.5))
        except queue.Empty:
            return

    def cancel(self, tickets: Collection[str]) -> None:
        """Skip these when their turn comes."""
        self._cancelled.update(tickets)

    def shutdown(self, *, cancel: bool) -> None:
        """End the thread after what it is at."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (submission := self._waiting.get()) is not None:
            ticket = submission.ticket
            if ticket in self._cancelled:
                continue
            self._events.put(Started(ticket))

            def tell(progress: object, ticket: str = ticket) -> None:
                self._events.put(Progressed(ticket, progress))  # type: ignore[arg-type]

            result = run_case(submission.case, submission.context, tell)
            if self._journal is not None:
                with self._journal.open("a") as stream:
                    stream.write(f"{submission.case.name} {submission.case.task}\n")
            self._events.put(Finished(ticket, result))
