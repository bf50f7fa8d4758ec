"""Ctrl-C, SIGTERM and alarms: held back where they would cut a record in two, and never lost.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. Inside a call to a store
that leaves a transaction open, or a run that nobody knows the id of; inside a finaliser it is
printed and forgotten.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_arrived = 0
_holds = 0


def install() -> Callable[[], None]:
    """Take over SIGINT and SIGTERM; schedulers and CI end a job with the latter.

    A SIGINT that is ignored, as in a job that a shell runs in the background, stays ignored.
    Outside the main thread, where Python takes no handlers, nothing changes.

    Returns:
        What puts the former handlers back and forgets what has arrived.
    """
    global _arrived
    _arrived = 0
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    taken = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        taken.append(signal.SIGINT)
    before = {signum: signal.signal(signum, _arrive) for signum in taken}

    def restore() -> None:
        global _arrived
        _arrived = 0
        for signum, handler in before.items():
            signal.signal(signum, handler)

    return restore


@contextmanager
def held() -> Iterator[None]:
    """Hold the first interrupt back until the block ends; a second one is raised at once.

    Plugins that limit the time of a test raise from an alarm; it waits for the end of the block
    too.
    """
    global _holds
    seen = _arrived
    alarms: list[FrameType | None] = []
    restore = _hold_alarm(alarms) if not _holds else None
    _holds += 1
    try:
        yield
    finally:
        _holds -= 1
        if restore is not None:
            restore()
    if _arrived > seen and not _holds:
        raise KeyboardInterrupt
    if alarms:
        signal.raise_signal(signal.SIGALRM)


def _hold_alarm(alarms: list[FrameType | None]) -> Callable[[], None] | None:
    """Note alarms instead of handling them; gives back what undoes that, or none."""
    alarm = getattr(signal, "SIGALRM", None)
    if alarm is None or threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(alarm)
    if not callable(handler):
        return None
    signal.signal(alarm, lambda signum, frame: alarms.append(frame))
    return lambda: _put_back(alarm, handler)


def _put_back(signum: int, handler: Callable[[int, FrameType | None], object]) -> None:
    signal.signal(signum, handler)


def check() -> None:
    """Raise an interrupt that has arrived, should somebody have swallowed it.

    Raises:
        KeyboardInterrupt: One has.
    """
    if _arrived:
        raise KeyboardInterrupt


def unsent() -> bool:
    """Whether a ``KeyboardInterrupt`` was raised by code although no signal has arrived.

    False where somebody else handles SIGINT, whose interrupts are not counted here.
    """
    return not _arrived and signal.getsignal(signal.SIGINT) is _arrive


def _arrive(signum: int, frame: FrameType | None) -> None:
    global _arrived
    _arrived += 1
    if not _holds or _arrived > 1:
        raise KeyboardInterrupt
