"""A process for each case: what ends, hangs or spoils the one costs its case and nothing else.

Cases are forked from a process that has imported torch and nothing of a case, so that each starts
as the first one does, without importing anything anew.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Collection
from multiprocessing.connection import wait
from pathlib import Path

from bob import interrupts
from bob.case import Failure, Result
from bob.errors import BobError, first_line
from bob.executors import Deliver, Event, Finished, Started, Submission
from bob.executors.running_case import RunningCase, end_all
from bob.startup import PRELOAD, warm_processes

_TICK_SECONDS = 0.5
_SAVE_TICK_SECONDS = 0.05


class ProcessExecutor:
    """Runs each case in a process of its own.

    A process that a signal or C's ``exit`` ends, that runs out of memory, or that exceeds its limit
    is that case's failure. Processes that a case has started end with it, and all of them end with
    this process, however it ends.

    Args:
        workers: How many cases run at once, as text. They share the cores: of ``n`` cases each has
            an n-th of the threads that one alone would have.

    Raises:
        BobError: ``workers`` is not a number from 1, or no process can be started.
    """

    stops_cases = True

    def __init__(self, workers: str = "1") -> None:
        if not workers.isascii() or not workers.isdigit() or int(workers) < 1:
            raise BobError(
                f"--executor-option workers={workers!r}: expected a whole number from 1."
            )
        if not hasattr(os, "killpg"):
            raise BobError(
                "--executor=process needs a system that forks and has groups of processes, such as "
                "Linux and macOS. Take --executor=inline."
            )
        self._workers = int(workers)
        try:
            self._processes = warm_processes(PRELOAD)
            self._folder = tempfile.TemporaryDirectory(prefix="bob-cases-")
        except OSError as error:
            raise BobError(
                f"--executor=process cannot start processes: {first_line(error)}. They are reached "
                "by a socket in the folder of temporary files. Name a short one that can be "
                f"written in TMPDIR{_named(os.environ.get('TMPDIR'))}."
            ) from None
        self._waiting: dict[str, Submission] = {}
        self._running: dict[str, RunningCase] = {}

    def submit(self, submission: Submission) -> None:
        """Remember the case."""
        self._waiting[submission.ticket] = submission

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Start as many cases as may run, the one waited for first, and pass on what they tell.

        Raises:
            KeyboardInterrupt: SIGTERM has come, and the cases that run have written checkpoints.
        """
        if interrupts.asked():
            self._save(deliver)
            interrupts.answered()
            interrupts.check()
        for ticket in sorted(self._waiting, key=lambda ticket: ticket != waiting_for):
            if len(self._running) >= self._workers:
                break
            if ticket not in self._waiting:  # cancelled when another one failed
                continue
            self._start(self._waiting.pop(ticket), deliver)
        self._note()
        running = {told: case for case in self._running.values() for told in case.heard_by}
        heard = {running[told]: None for told in wait(list(running), timeout=_TICK_SECONDS)}
        orphans = {case: None for case in self._running.values() if case.orphaned}
        for case in {**heard, **orphans}:
            if self._running.get(case.ticket) is case:
                for event in case.told():
                    self._pass_on(case, event, deliver)
        for case in [case for case in self._running.values() if case.overdue]:
            self._pass_on(case, Finished(case.ticket, case.end_overdue()), deliver)
        self._note()

    def _save(self, deliver: Deliver) -> None:
        """Have the cases that run write checkpoints and end; results that come now still count."""
        until = time.monotonic() + interrupts.GRACE
        for case in self._running.values():
            case.terminate()
        while self._running and time.monotonic() < until:
            for case in list(self._running.values()):
                events, ended = case.last_told()
                for event in events:
                    self._pass_on(case, event, deliver)
                if ended and self._running.pop(case.ticket, None) is not None:
                    end_all([case])
            time.sleep(_SAVE_TICK_SECONDS)

    def _note(self) -> None:
        """Say whether SIGTERM is to wait for checkpoints."""
        running = self._running.values()
        interrupts.saves(self, any(case.writes_checkpoints for case in running))

    def cancel(self, tickets: Collection[str]) -> None:
        """Forget cases that have not started, and end those that run."""
        ended = [self._running.pop(ticket) for ticket in tickets if ticket in self._running]
        for ticket in tickets:
            self._waiting.pop(ticket, None)
        end_all(ended)
        self._note()

    def shutdown(self, *, cancel: bool) -> None:
        """End every process, and remove the folder of their output."""
        self._waiting.clear()
        if not cancel:
            while self._running:
                self.advance(lambda event: None, waiting_for="")
        self.cancel(list(self._running))
        self._folder.cleanup()

    def _start(self, submission: Submission, deliver: Deliver) -> None:
        output = Path(self._folder.name) / f"{time.monotonic_ns()}.txt"
        ticket = submission.ticket
        try:
            self._running[ticket] = RunningCase(
                self._processes, submission, output, share=self._workers
            )
        except Exception as error:  # no process or file is left, or the case cannot be sent
            message = f"no process can be started for it: {type(error).__name__}: {error}"
            deliver(Started(ticket))
            failure = Failure("error", message)
            deliver(Finished(ticket, Result(case=submission.case, failure=failure)))

    def _pass_on(self, case: RunningCase, event: Event, deliver: Deliver) -> None:
        if isinstance(event, Finished):
            self._running.pop(case.ticket, None)
            case.release()
            case.show_output()
        deliver(event)


def _named(folder: str | None) -> str:
    return f", which is {folder}" if folder else ""
