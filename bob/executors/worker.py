"""The process of one case: it runs the case and tells what comes of it."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO, TextIOWrapper
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from types import FrameType

from bob import interrupts
from bob.case import Failure, Progress, Result
from bob.executors import Finished, Progressed, Started, Submission

TRACE_SIGNAL = getattr(signal, "SIGUSR1", signal.SIGINT)
"""Has the process write where all its threads stand."""

_TOLD_SECONDS = 0.1


def work(
    events: Connection,
    submission: Submission,
    output: str,
    environment: Mapping[str, str],
    share: int,
) -> None:
    """Run a case; the last thing that happens in this process.

    Args:
        events: Where events go.
        submission: The case.
        output: File that takes stdout and stderr.
        environment: Variables of the process that asks; this one may be older.
        share: How many cases share the cores.
    """
    _settle(output, environment)
    ticket = submission.ticket
    events.send(Started(ticket))
    tell = _Teller(events, ticket)
    try:
        _share_cores(share)
        from bob.run import run_case

        result = run_case(submission.case, submission.context, tell)
    except BaseException as error:  # an interrupt that nobody sent to this process
        if interrupts.terminated():  # a checkpoint has been written, and there is no result
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _end(signal.SIGTERM)
        result = _unforeseen(submission, error)
    _send(events, submission, result)
    events.close()
    _end()


def _end(how: signal.Signals = signal.SIGKILL) -> None:
    """End this process by a signal, with all that the case has started and left behind."""
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os.killpg(0, how)


def _save_or_end(signum: int, frame: FrameType | None) -> None:
    """SIGTERM: a case that can write a checkpoint does so at its next step; any other ends."""
    if not interrupts.ask():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


class _Teller:
    """Tells progress: whatever is new, and steps now and then."""

    def __init__(self, events: Connection, ticket: str) -> None:
        self._events, self._ticket = events, ticket
        self._phase, self._last = "", 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        new = progress.phase != self._phase or progress.metrics or progress.run_key
        if new or now - self._last >= _TOLD_SECONDS:
            self._phase, self._last = progress.phase, now
            self._events.send(Progressed(self._ticket, progress))


def _settle(output: str, environment: Mapping[str, str]) -> None:
    """Make this process one of its own, which ends when the one that asked for it does."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _save_or_end)
    file = _redirected(output)
    faulthandler.enable(file)
    faulthandler.register(TRACE_SIGNAL, file, all_threads=True)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")  # when memory runs out, the case is to end and not pytest
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _redirected(output: str) -> TextIOWrapper:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    stream = TextIOWrapper(
        FileIO(1, "w", closefd=False), encoding="utf-8", errors="replace", write_through=True
    )
    sys.stdout = sys.stderr = stream
    return stream


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)


def _share_cores(share: int) -> None:
    if share > 1:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // share))


def _send(events: Connection, submission: Submission, result: Result) -> None:
    with suppress(BrokenPipeError):
        try:
            events.send(Finished(submission.ticket, result))
        except BrokenPipeError:
            raise
        except Exception as error:  # what cannot be pickled
            events.send(Finished(submission.ticket, _unforeseen(submission, error)))


def _unforeseen(submission: Submission, error: BaseException) -> Result:
    failure = Failure("error", f"{type(error).__name__}: {error}")
    return Result(case=submission.case, failure=failure)
