"""Cases run one after the other in this process; a debugger works."""

from __future__ import annotations

from collections.abc import Collection

from bob.executors import Deliver, Finished, Progressed, Started, Submission
from bob.run import run_case


class InlineExecutor:
    """The default executor: runs the case that is waited for, and no other before it."""

    def __init__(self) -> None:
        self._waiting: dict[str, Submission] = {}

    def submit(self, submission: Submission) -> None:
        """Remember the case."""
        self._waiting[submission.ticket] = submission

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Run the case that is waited for, from beginning to end."""
        ticket = waiting_for
        submission = self._waiting.pop(ticket)
        deliver(Started(ticket))
        result = run_case(
            submission.case,
            submission.context,
            lambda progress: deliver(Progressed(ticket, progress)),
        )
        deliver(Finished(ticket, result))

    def cancel(self, tickets: Collection[str]) -> None:
        """Forget cases that have not started."""
        for ticket in tickets:
            self._waiting.pop(ticket, None)

    def shutdown(self, *, cancel: bool) -> None:
        """Forget what has not started."""
        self._waiting.clear()
