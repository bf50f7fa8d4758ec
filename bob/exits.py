"""Code that ends the process while cases run: a failed case where Python can refuse, else a word.

``sys.exit`` raises an error, which whoever runs a case can catch. ``os._exit``, a signal that a
process sends itself and C's ``exit`` do not: pytest would end with status 0 and say nothing.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import ModuleType
from typing import Any

UNFINISHED = 70
"""Exit status of a process that ended before its session (``EX_SOFTWARE``)."""

_HARMLESS = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT, 0}


class ProcessExit(BaseException):
    """Code asked for the end of the process while a case ran.

    No ``Exception``, so that an ``except Exception`` of that code does not catch it.
    """


class _Watch:
    """What is known of the process; one for all sessions in it.

    Attributes:
        sessions: How many sessions are open, one inside the other.
        pid: The process of the newest; its children may end as they like.
        runs: The cases that run, the innermost last, and the thread each runs in.
        asked: What the newest case's code called to end the process.
        stderr: A copy of the descriptor of stderr, which nobody captures.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.pid = 0
        self.runs: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self.stderr = 2


_WATCH = _Watch()
_REAL: dict[str, Callable[..., Any]] = {}


def install() -> Callable[[], None]:
    """Watch over a session.

    What ends this process before the session has ended is told on stderr, and the exit status is
    not 0.

    Returns:
        What says that the session has ended.
    """
    _patch()
    _WATCH.sessions += 1
    _WATCH.pid = os.getpid()
    if _WATCH.sessions == 1:
        _WATCH.stderr = os.dup(2)
        _arm()

    def finished() -> None:
        _WATCH.sessions -= 1
        if not _WATCH.sessions:
            _disarm()
            os.close(_WATCH.stderr)
            _WATCH.stderr = 2
        _unpatch()

    return finished


@contextmanager
def running(what: str) -> Iterator[list[str]]:
    """Refuse to end the process in the block; what asks for it has a ``ProcessExit`` raised.

    Args:
        what: What runs, for messages.

    Yields:
        What was called to end the process, whether or not somebody caught the error.
    """
    _patch()
    outer, _WATCH.asked = _WATCH.asked, []
    pid, former = os.getpid(), _WATCH.pid
    _WATCH.pid = pid
    _WATCH.runs.append((what, threading.get_ident()))
    try:
        yield _WATCH.asked
    finally:
        end_forked(pid, what)
        _WATCH.runs.pop()
        _WATCH.asked = outer
        _WATCH.pid = former or pid
        _unpatch()


def end_forked(pid: int, what: str) -> None:
    """End a forked child that has come back from the code that forked it, a second session.

    Args:
        pid: The process that may go on.
        what: What runs, for the message.
    """
    if os.getpid() != pid:
        _say(f"{what}: its code forked a process that came back; that one was ended")
        _real("_exit")(UNFINISHED)


def _say(text: str) -> None:
    with suppress(OSError):  # nobody to tell
        os.write(_WATCH.stderr, f"\nbob: {text}\n".encode(errors="replace"))


def _where() -> str:
    return f"while {_WATCH.runs[-1][0]} ran" if _WATCH.runs else "between two cases"


def _ending(call: str, status: int) -> None:
    """Somebody asks for the end: refuse in a case's thread, tell of it elsewhere."""
    if os.getpid() != _WATCH.pid or not (_WATCH.sessions or _WATCH.runs):
        return  # a worker, or nothing is open
    mine = bool(_WATCH.runs) and _WATCH.runs[-1][1] == threading.get_ident()
    if mine or (_WATCH.runs and status == 0):
        _WATCH.asked.append(call)
        raise ProcessExit(call)
    # A watchdog of another thread that ends a process that hangs may do so.
    _say(f"{call} ended the process {_where()}; the session had not finished")
    if status == 0:
        _real("_exit")(UNFINISHED)


def _real(name: str) -> Callable[..., Any]:
    return _REAL.get(name) or getattr(os, name)


def _fatal(number: int) -> bool:
    if number in (signal.SIGKILL, signal.SIGSTOP):
        return True
    return number not in _HARMLESS and signal.getsignal(number) is signal.SIG_DFL


def _refusing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """The function of ``os`` or ``signal`` of that name, asking first."""

    @wraps(real)
    def ask(*args: Any, **kwargs: Any) -> Any:
        shown = ", ".join(repr(argument)[:40] for argument in args[:2])
        if name == "_exit":
            status = args[0] if args else kwargs.get("status", 0)
            _ending(f"os._exit({status})", status)
        elif name in ("kill", "killpg") and len(args) == 2:
            own = (os.getpid(), 0) if name == "kill" else (os.getpgrp(), 0)
            mine = args[0] in own or (name == "kill" and args[0] == -os.getpgrp())
            if mine and _fatal(args[1]):
                _ending(f"os.{name}({shown})", 1)
        elif name == "raise_signal":
            if args and _fatal(args[0]):
                _ending(f"signal.raise_signal({shown})", 1)
        elif name in ("abort", "execv", "execve"):
            _ending(f"os.{name}({shown})", 1 if name == "abort" else 0)
        return real(*args, **kwargs)

    return ask


_PATCHED: list[tuple[ModuleType, str, Any]] = []
_DEPTH = 0


def _patch() -> None:
    global _DEPTH
    _DEPTH += 1
    if _DEPTH > 1:
        return
    system = sys.modules.get(os.name, os)
    for owner, names in (
        (os, ("_exit", "abort", "kill", "killpg", "execv", "execve")),
        (system, ("_exit", "abort", "kill", "killpg", "execv", "execve")),
        (signal, ("raise_signal",)),
    ):
        for name in names:
            real = getattr(owner, name, None)
            if real is None or hasattr(real, "__wrapped__"):
                continue
            _REAL.setdefault(name, real)
            _PATCHED.append((owner, name, real))
            setattr(owner, name, _refusing(name, real))


def _unpatch() -> None:
    global _DEPTH
    _DEPTH -= 1
    if not _DEPTH:
        while _PATCHED:
            owner, name, real = _PATCHED.pop()
            setattr(owner, name, real)


_HANDLE = ctypes.c_char()  # its address tells libc which handlers are meant


def _at_exit(_: object) -> None:
    """Called by C's ``exit``: while a session is open, somebody's code ended the process."""
    if _WATCH.sessions and os.getpid() == _WATCH.pid:
        _say(f"C's exit() ended the process {_where()}; the session had not finished")
        _real("_exit")(UNFINISHED)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_at_exit)


def _libc() -> Any:
    """The C library, where handlers of its ``exit`` can be taken back; else none.

    A handler in Python must be gone before Python ends, or it crashes.
    """
    known = platform.libc_ver()[0] == "glibc" or sys.platform == "darwin"
    return ctypes.CDLL(None) if known else None


def _arm() -> None:
    libc = _libc()
    if libc is not None:
        libc.__cxa_atexit(_HANDLER, None, ctypes.byref(_HANDLE))
        atexit.register(_disarm)


def _disarm() -> None:
    """Take the handler back: libc calls it now, and will not call it again."""
    libc = _libc()
    if libc is not None:
        atexit.unregister(_disarm)
        libc.__cxa_finalize(ctypes.byref(_HANDLE))
