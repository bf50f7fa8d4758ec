"""A case in a process of its own: started, listened to, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bob.case import Failure, Result
from bob.executors import Event, Finished, Submission
from bob.executors.worker import TRACE_SIGNAL, work
from bob.startup import without_main

_GRACE_SECONDS = 5.0
_TRACE_SECONDS = 2.0
_TRACE_WORDS = "(most recent call first)"
_SHOWN_BYTES = 20_000
_UNKNOWN = 255
"""Exit status of a process whose parent is gone."""


class RunningCase:
    """A case in its process.

    Args:
        processes: What makes processes.
        submission: The case.
        output: File for what it prints.
        share: How many cases share the cores.

    Raises:
        Exception: No process can be started, or the case cannot be sent to it.
    """

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
        with without_main():
            self._process.start()
        theirs.close()
        self._begun = self._heard = time.monotonic()
        self.orphaned = False

    @property
    def heard_by(self) -> tuple[Any, ...]:
        """What to wait for: its events, and its end. What it has left behind may keep the first.

        Nothing tells of the end of an orphan but its events.
        """
        return (self.events,) if self.orphaned else (self.events, self._process.sentinel)

    @property
    def what(self) -> str:
        """Words that name the case in messages."""
        case = self._submission.case
        return f"{case.name} {case.task} seed {case.seed}"

    def told(self) -> list[Event]:
        """What the case has told since; its end where the process has ended without a word."""
        found: list[Event] = []
        ended = self._ended()  # asked first: its last words are there by then
        try:
            while self.events.poll():
                found.append(self.events.recv())
                self._heard = time.monotonic()
                if isinstance(found[-1], Finished):
                    return found
        except (EOFError, OSError):
            return [*found, Finished(self.ticket, self._end_unheard())]
        except Exception as error:  # a result that cannot be read here
            end_all([self])
            message = (
                f"what {self.what} told cannot be read here: {type(error).__name__}: {error}. "
                "Are its classes importable where pytest runs?"
            )
            return [*found, Finished(self.ticket, self._failed("error", message))]
        return [*found, Finished(self.ticket, self._end_unheard())] if ended else found

    def _ended(self) -> bool:
        """Whether the process has ended.

        The process that forks tells how others have ended. Where a case has killed it, all of those
        that run seem to have ended with an unknown status: they are orphans, and are looked for.
        """
        if self._process.is_alive():
            return False
        self.orphaned = self._process.exitcode == _UNKNOWN and _runs(self._process.pid)
        return not self.orphaned

    @property
    def writes_checkpoints(self) -> bool:
        """Whether it is worth asking for one before it is ended."""
        return bool(self._submission.context.checkpoints)

    def last_told(self) -> tuple[list[Event], bool]:
        """What the case has told since, and whether its process has ended, with a word or not."""
        events: list[Event] = []
        ended = self.joined(0)
        with suppress(Exception):  # nothing more is there, or what is there cannot be read
            while self.events.poll():
                events.append(self.events.recv())
        return events, ended

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
        end_all([self])
        why = "nothing was heard of it" if limit.of_silence else "it ran"
        message = (
            f"{self.what} was stopped: {why} for {_duration(limit.seconds)} (--case-timeout). "
            "The traceback says where it stood; a longer --case-timeout lets it go on."
        )
        return self._failed("timeout", message, trace)

    def release(self) -> None:
        """Let go of a process that has told its end."""
        self._process.join(_GRACE_SECONDS)
        end_all([self])

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
        until = time.monotonic() + seconds
        while not (ended := self._process.exitcode is not None and self._ended()):
            if not self.orphaned or time.monotonic() >= until:
                break
            time.sleep(0.02)
        return ended

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


def end_all(cases: Collection[RunningCase]) -> None:
    """End processes: a request first, so that what they write is whole, then by force."""
    for case in cases:
        case.terminate()
    until = time.monotonic() + _GRACE_SECONDS
    for case in cases:
        case.joined(max(0.0, until - time.monotonic()))
        case.kill()


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


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
