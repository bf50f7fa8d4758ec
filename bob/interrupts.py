"""Ctrl-C, SIGTERM, SIGHUP and alarms: held back where they would cut a record in two, never lost.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. Inside a call to a store
that leaves a transaction open, or a run that nobody knows the id of; inside a finaliser it is
printed and forgotten; a second one, while the first is being handled, leaves the record as it was.

SIGTERM is different while a case runs that can write a checkpoint: it asks for one. The interrupt
is raised when it has been written, or after ``GRACE`` seconds wherever the process stands.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

_SAME = 2.0
"""Seconds within which further signals say the same again: a terminal, a shell and tox each send
one, and people press Ctrl-C twice."""
GRACE = 20.0
"""Seconds that SIGTERM waits for a checkpoint."""
_ENOUGH = 20.0
"""Seconds after the first signal from which on another one is raised wherever it meets the process:
what holds it then, hangs."""


@dataclass
class _Signals:
    """What has arrived in this process.

    Attributes:
        pid: The process that took the handlers over; its children are not meant.
        arrived: How many signals have come.
        first: When the first came, in seconds of the monotonic clock.
        raised: When one was last raised; none where that was not yet.
        holds: How many blocks hold them back, one inside the other.
        hung_up: Whether one said that the terminal has been closed.
        terminated: Whether SIGTERM was the first.
        savers: What runs that can write a checkpoint, by identity.
        asked: When SIGTERM asked for one, in seconds of the monotonic clock; none where it did not.
    """

    pid: int = 0
    arrived: int = 0
    first: float = 0.0
    raised: float | None = None
    holds: int = 0
    hung_up: bool = False
    terminated: bool = False
    savers: set[int] = field(default_factory=set)
    asked: float | None = None

    @property
    def waits(self) -> bool:
        """Whether SIGTERM is to wait for a checkpoint, and has not waited for too long."""
        if self.arrived or not (self.savers or self.asked is not None):
            return False
        return self.asked is None or time.monotonic() - self.asked < GRACE

    def note(self, *, terminated: bool) -> None:
        """Count one that has arrived."""
        self.terminated = self.terminated if self.arrived else terminated
        self.first = self.first or time.monotonic()
        self.arrived += 1

    def throw(self) -> None:
        self.raised = time.monotonic()
        raise KeyboardInterrupt

    @property
    def told(self) -> bool:
        """Whether one was raised a moment ago, and is being handled."""
        return self.raised is not None and time.monotonic() - self.raised < _SAME


_signals = _Signals()


def install() -> Callable[[], None]:
    """Take over SIGINT, SIGTERM and SIGHUP; schedulers, CI and closed terminals send the others.

    One that is ignored stays ignored: SIGINT in a job that a shell runs in the background, SIGHUP
    under ``nohup``. Outside the main thread, where Python takes no handlers, nothing changes.

    Returns:
        What puts the former handlers back and forgets what has arrived.
    """
    global _signals
    former, _signals = _signals, _Signals(pid=os.getpid())
    taken: list[int] = []
    if threading.current_thread() is threading.main_thread():
        wanted = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)]
        taken = [number for number in wanted if number and _is_heard(number)]
    before = {signum: signal.signal(signum, _arrive) for signum in taken}

    def restore() -> None:
        global _signals
        _signals = former
        for signum, handler in before.items():
            signal.signal(signum, handler)

    return restore


def _is_heard(signum: int) -> bool:
    return signal.getsignal(signum) != signal.SIG_IGN


@contextmanager
def held() -> Iterator[None]:
    """Hold interrupts back until the outermost such block ends.

    What is done in it takes a bounded time. One that arrives long after the first is raised all the
    same. Plugins that limit the time of a test raise from an alarm; it waits for the end of the
    block too.
    """
    signals = _signals
    seen = signals.arrived
    alarms: list[FrameType | None] = []
    restore = _hold_alarm(alarms) if not signals.holds else None
    signals.holds += 1
    try:
        yield
    finally:
        signals.holds -= 1
        if restore is not None:
            restore()
    if signals.arrived > seen and not signals.holds and not signals.told:
        signals.throw()
    if alarms:
        signal.raise_signal(signal.SIGALRM)


def hold_from_here() -> None:
    """Hold interrupts back until the session has ended: its record is being closed."""
    _signals.holds += 1


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


def saves(owner: object, can: bool) -> None:
    """Note whether something runs that writes a checkpoint when it is asked for one.

    When nothing is left that could answer, a SIGTERM that asked has arrived: it is raised where
    ``check`` is called next.

    Args:
        owner: What runs.
        can: Whether it can.
    """
    signals = _signals
    if can:
        signals.savers.add(id(owner))
        return
    signals.savers.discard(id(owner))
    if signals.asked is not None and not signals.savers and not signals.arrived:
        signals.note(terminated=True)


def ask() -> bool:
    """Ask what runs for a checkpoint, as SIGTERM does; false where nothing can write one."""
    signals = _signals
    if not signals.waits:
        return False
    if signals.asked is None:
        signals.asked = time.monotonic()
        _raise_later(signals)
    return True


def asked() -> bool:
    """Whether a checkpoint has been asked for and ``answered`` is waited for."""
    return _signals.asked is not None and not _signals.arrived


def answered() -> None:
    """A checkpoint has been written, or cannot be: raise the interrupt that asked for it.

    Raises:
        KeyboardInterrupt: One has been asked for.
    """
    signals = _signals
    if not asked():
        return
    signals.note(terminated=True)
    if not signals.holds:
        signals.throw()


def terminated() -> bool:
    """Whether SIGTERM is what ends this process, or is waiting to."""
    return _signals.terminated or asked()


def _raise_later(signals: _Signals) -> None:
    """Have SIGTERM come again when its time is over, should nothing have answered it."""
    main = threading.main_thread().ident

    def again() -> None:
        if signals is _signals and asked() and main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    timer = threading.Timer(GRACE + 0.1, again)
    timer.daemon = True
    timer.start()


def check() -> None:
    """Raise an interrupt that has arrived, should somebody have swallowed it.

    Raises:
        KeyboardInterrupt: One has.
    """
    if _signals.arrived:
        _signals.throw()


def arrived() -> bool:
    """Whether an interrupt has arrived, handled or not."""
    return _signals.arrived > 0


def since() -> float | None:
    """When the first interrupt arrived, in seconds of the monotonic clock; none where none has."""
    return _signals.first if _signals.arrived else None


def hung_up() -> bool:
    """Whether the terminal has been closed: nobody reads what is written to it."""
    return _signals.hung_up


def unsent() -> bool:
    """Whether a ``KeyboardInterrupt`` was raised by code although no signal has arrived.

    False where somebody else handles SIGINT, whose interrupts are not counted here.
    """
    return not _signals.arrived and signal.getsignal(signal.SIGINT) is _arrive


def _arrive(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _signals.pid:
        raise KeyboardInterrupt  # a forked worker, which has our handler and no record
    if signum == signal.SIGTERM and ask():
        return
    _signals.note(terminated=signum == signal.SIGTERM or _signals.asked is not None)
    _signals.hung_up |= signum == getattr(signal, "SIGHUP", None)
    free = not _signals.holds and not _signals.told
    if free or time.monotonic() - _signals.first > _ENOUGH:
        _signals.throw()
