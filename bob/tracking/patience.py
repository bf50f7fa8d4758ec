"""How long a store may keep its caller waiting: a bounded time in all, whatever the store does.

A socket's timeout ends a silence and nothing else: a server that trickles, asks for an hour's pause
in ``Retry-After``, or hides behind a resolver that hangs is ended by the deadline here.
"""

from __future__ import annotations

import contextvars
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bob import interrupts

_SECONDS = 30.0
LAST_WORDS = 8.0
"""Seconds that a store has in all once the session was interrupted."""
_LOOK = 0.1
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_BACKOFF = "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"
_OURS = {
    _TIMEOUT: "10",
    _RETRIES: "2",
    _BACKOFF: "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

Answer = TypeVar("Answer")


class StoreSilentError(Exception):
    """The store did not answer in time, or has used up the time that it had."""


def retries() -> int:
    """How often a request is tried again: as the user's environment says, or twice."""
    return _number(_RETRIES)


def allowed_seconds() -> float:
    """Seconds that failed calls may take in all.

    30, or what one call may take by the MLflow variables that the user has set, if that is longer.
    """
    if not any(name in os.environ for name in (_TIMEOUT, _RETRIES, _BACKOFF)):
        return _SECONDS
    pauses = sum(_number(_BACKOFF) * 2.0**again for again in range(1, retries()))
    return max(_SECONDS, (retries() + 1) * _number(_TIMEOUT) + pauses)


@dataclass
class Patience:
    """The time that a store may waste. Calls that succeed are free, however long they take.

    Once the session was interrupted, they are not: ``LAST_WORDS`` is left for all that is to say.

    Attributes:
        seconds: What it may waste in all.
        wasted: What failed calls have taken so far.
        said: What calls have taken since the interrupt.
        answered: How many calls the store has answered.
        failed: How many it has not, or with an error.
    """

    seconds: float = field(default_factory=allowed_seconds)
    wasted: float = 0.0
    said: float = 0.0
    answered: int = 0
    failed: int = 0

    @property
    def over(self) -> bool:
        """Whether the store is not asked any more."""
        return self.wasted >= self.seconds or self.said >= LAST_WORDS

    def ask(
        self,
        call: Callable[[], Answer],
        *,
        extra: float | None = 0.0,
        environment: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call the store.

        Args:
            call: One call; what it raises is raised here.
            extra: Seconds it may take beyond what is left, as a large upload does; without
                a deadline where it is none.
            environment: MLflow's variables for this call, before those of the user.

        Raises:
            StoreSilentError: The deadline has passed. The call goes on in its thread until its
                own timeouts end it, and nobody waits.
        """
        if self.over:
            raise StoreSilentError(self.why)
        began = time.monotonic()
        try:
            with bounded(environment or {}):
                if extra is None:
                    return self._counted(call())
                ends = began + self.seconds - self.wasted + extra
                return self._counted(_before(lambda: min(ends, self._last_moment(began)), call))
        except Exception:
            self.wasted += time.monotonic() - began
            self.failed += 1
            raise
        finally:
            interrupted = interrupts.since()
            if interrupted is not None:
                self.said += time.monotonic() - max(began, interrupted)

    @property
    def why(self) -> str:
        """Why the store is not asked any more."""
        if self.wasted >= self.seconds:
            return f"it has kept the session waiting for {self.seconds:.0f} s in all"
        return f"the session was interrupted, and {LAST_WORDS:.0f} s for last words are over"

    def _counted(self, answer: Answer) -> Answer:
        self.answered += 1
        return answer

    def _last_moment(self, began: float) -> float:
        interrupted = interrupts.since()
        if interrupted is None:
            return math.inf
        return max(began, interrupted) + LAST_WORDS - self.said


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What a call gives, if it does so in time; it runs in a thread of its own.

    Raises:
        StoreSilentError: The time is over.
    """
    ends = time.monotonic() + seconds
    return _before(lambda: ends, call)


def _before(ends: Callable[[], float], call: Callable[[], Answer]) -> Answer:
    """What a call gives before a moment that may be brought forward while it is waited for."""
    began = time.monotonic()
    outcome: Future[Answer] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.set_result(context.run(call))
        except BaseException as error:
            outcome.set_exception(error)

    # a pool's threads are waited for at exit, and one that hangs would hang the exit
    threading.Thread(target=work, name="bob-store", daemon=True).start()
    while True:
        left = ends() - time.monotonic()
        try:
            return outcome.result(timeout=max(0.0, min(left, _LOOK)))
        except TimeoutError:
            if outcome.done():
                return outcome.result()
            if left <= _LOOK:
                waited = time.monotonic() - began
                raise StoreSilentError(f"no answer within {waited:.0f} s") from None


@contextmanager
def bounded(environment: Mapping[str, str]) -> Iterator[None]:
    """MLflow's variables for the length of a call; those that the user has set stay."""
    wanted = {name: text for name, text in _OURS.items() if name not in os.environ}
    wanted |= environment
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def _number(name: str) -> int:
    try:
        return max(0, int(os.environ.get(name, _OURS[name])))
    except ValueError:  # MLflow says what is wrong with it
        return int(_OURS[name])
