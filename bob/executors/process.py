"""A process for each case: what ends, hangs or spoils the one costs its case and nothing else.

Cases are forked from a process that has imported torch and nothing of a case, so that each starts
as the first one does, without importing anything anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

from bob.case import Failure, Result
from bob.errors import BobError, first_line
from bob.executors import Deliver, Event, Finished, Started, Submission
from bob.executors.worker import TRACE_SIGNAL, work

_TICK_SECONDS = 0.5
_GRACE_SECONDS = 5.0
_TRACE_SECONDS = 2.0
_TRACE_WORDS = "(most recent call first)"
_SHOWN_BYTES = 20_000


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
            self._processes = _warm_context()
            self._folder = tempfile.TemporaryDirectory(prefix="bob-cases-")
        except OSError as error:
            raise BobError(
                f"--executor=process cannot start processes: {first_line(error)}. They are reached "
                "by a socket in the folder of temporary files. Name a short one that can be "
                f"written in TMPDIR{_named(os.environ.get('TMPDIR'))}."
            ) from None
        self._waiting: dict[str, Submission] = {}
        self._running: dict[str, _Running] = {}

    def submit(self, submission: Submission) -> None:
        """Remember the case."""
        self._waiting[submission.ticket] = submission

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Start as many cases as may run, the one waited for first, and pass on what they tell."""
        for ticket in sorted(self._waiting, key=lambda ticket: ticket != waiting_for):
            if len(self._running) >= self._workers:
                break
            if ticket not in self._waiting:  # cancelled when another one failed
                continue
            self._start(self._waiting.pop(ticket), deliver)
        running = {told: case for case in self._running.values() for told in case.heard_by}
        for case in {running[told]: None for told in wait(list(running), timeout=_TICK_SECONDS)}:
            if self._running.get(case.ticket) is case:
                for event in case.told():
                    self._pass_on(case, event, deliver)
        for case in [case for case in self._running.values() if case.overdue]:
            self._pass_on(case, Finished(case.ticket, case.end_overdue()), deliver)

    def cancel(self, tickets: Collection[str]) -> None:
        """Forget cases that have not started, and end those that run."""
        ended = [self._running.pop(ticket) for ticket in tickets if ticket in self._running]
        for ticket in tickets:
            self._waiting.pop(ticket, None)
        _end(ended)

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
            self._running[ticket] = _Running(
                self._processes, submission, output, share=self._workers
            )
        except Exception as error:  # no process or file is left, or the case cannot be sent
            message = f"no process can be started for it: {type(error).__name__}: {error}"
            deliver(Started(ticket))
            failure = Failure("error", message)
            deliver(Finished(ticket, Result(case=submission.case, failure=failure)))

    def _pass_on(self, case: _Running, event: Event, deliver: Deliver) -> None:
        if isinstance(event, Finished):
            self._running.pop(case.ticket, None)
            case.release()
            case.show_output()
        deliver(event)


class _Running:
    """A case in its process."""

    def __init__(self, processes: Any, submission: Submission, output: Path, *, share: int) -> None:
        self.ticket = submission.ticket
        self._submission = submission
        self._output = output
        self.events, theirs = processes.Pipe(duplex=False)
        self._process = processes.Process(
            target=work,
            args=(theirs, submission, str(output), dict(os.environ), share),
            name=f"bob {submission.ticket}",
        )
        with _without_main():
            self._process.start()
        theirs.close()
        self._begun = self._heard = time.monotonic()

    @property
    def heard_by(self) -> tuple[Any, ...]:
        """What to wait for: its events, and its end. What it has left behind may keep the first."""
        return self.events, self._process.sentinel

    @property
    def what(self) -> str:
        """Words that name the case in messages."""
        case = self._submission.case
        return f"{case.name} {case.task} seed {case.seed}"

    def told(self) -> list[Event]:
        """What the case has told since; its end where the process has ended without a word."""
        found: list[Event] = []
        ended = not self._process.is_alive()  # asked first: its last words are there by then
        try:
            while self.events.poll():
                found.append(self.events.recv())
                self._heard = time.monotonic()
                if isinstance(found[-1], Finished):
                    return found
        except (EOFError, OSError):
            return [*found, Finished(self.ticket, self._end_unheard())]
        except Exception as error:  # a result that cannot be read here
            _end([self])
            message = (
                f"what {self.what} told cannot be read here: {type(error).__name__}: {error}. "
                "Are its classes importable where pytest runs?"
            )
            return [*found, Finished(self.ticket, self._failed("error", message))]
        return [*found, Finished(self.ticket, self._end_unheard())] if ended else found

    @property
    def overdue(self) -> bool:
        """Whether it has exceeded its limit."""
        limit = self._submission.limit
        if limit is None:
            return False
        since = self._heard if limit.of_silence else self._begun
        return time.monotonic() - since > limit.seconds

    def end_overdue(self) -> Result:
        """End it because of its limit, with a word on where it stood."""
        limit = self._submission.limit
        assert limit is not None
        before = self._output.stat().st_size if self._output.exists() else 0
        with suppress(OSError):
            os.kill(self._process.pid, TRACE_SIGNAL)
        until = time.monotonic() + _TRACE_SECONDS
        while _TRACE_WORDS not in self._read_output(before) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.05)
        trace = self._read_output(before)
        _end([self])
        why = "nothing was heard of it" if limit.of_silence else "it ran"
        message = (
            f"{self.what} was stopped: {why} for {_duration(limit.seconds)} (--case-timeout). "
            "The traceback says where it stood; a longer --case-timeout lets it go on."
        )
        return self._failed("timeout", message, trace)

    def release(self) -> None:
        """Let go of a process that has told its end."""
        self._process.join(_GRACE_SECONDS)
        _end([self])

    def terminate(self) -> None:
        """Ask the process to end."""
        with suppress(OSError, ValueError):
            self._process.terminate()

    def kill(self) -> None:
        """End the process, and those it has started."""
        pid = self._process.pid
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(OSError, ValueError):
            self._process.kill()
        self._process.join(_GRACE_SECONDS)
        self.events.close()

    def joined(self, seconds: float) -> bool:
        """Whether the process has ended within so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def show_output(self) -> None:
        """Print what the case has printed, for pytest to capture."""
        text = self._read_output()
        if text.strip():
            print(text if text.endswith("\n") else f"{text}\n", end="")
        self._output.unlink(missing_ok=True)

    def _end_unheard(self) -> Result:
        self._process.join(_GRACE_SECONDS)
        status = self._process.exitcode
        self.kill()
        message = f"the process of {self.what} ended {_how(status)} before the case did."
        if status == -signal.SIGKILL:
            message += (
                " The system ends a process so when memory runs out: try --workers 0, fewer cases "
                "at once, or a smaller batch, and see what the kernel's log says."
            )
        return self._failed("exit", message, self._read_output())

    def _failed(self, kind: str, message: str, text: str = "") -> Result:
        return Result(case=self._submission.case, failure=Failure(kind, message, text))

    def _read_output(self, start: int = 0) -> str:
        """The end of what was printed from a byte on."""
        try:
            with self._output.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(start, size - _SHOWN_BYTES))
                return stream.read(_SHOWN_BYTES).decode(errors="replace")
        except OSError:
            return ""


def _end(cases: Collection[_Running]) -> None:
    """End processes: a request first, so that what they write is whole, then by force."""
    for case in cases:
        case.terminate()
    until = time.monotonic() + _GRACE_SECONDS
    for case in cases:
        case.joined(max(0.0, until - time.monotonic()))
        case.kill()


def _named(folder: str | None) -> str:
    return f", which is {folder}" if folder else ""


def _warm_context() -> Any:
    """Processes that are forked from one which has imported what every case needs.

    Raises:
        OSError: That one cannot be started.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["bob.executors.preload"])
    ensure_running()
    return processes


@contextmanager
def _without_main() -> Iterator[None]:
    """A script that calls ``pytest.main`` is not run once more by each process that starts."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).get(name) for name in ("__spec__", "__file__") if name in vars(main)}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def _how(status: int | None) -> str:
    if status is None:
        return "without a status"
    if status >= 0:
        return f"with status {status}"
    with suppress(ValueError):
        return f"by {signal.Signals(-status).name}"
    return f"by signal {-status}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
