"""Processes that help a case, one for each further device: started, spoken to, and ended."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from bob import interrupts
from bob.distributed.group import PeerLost
from bob.errors import BobError
from bob.startup import PRELOAD, warm_processes, without_main

_TICK_SECONDS = 0.5
_LAST_WORDS_SECONDS = 10.0
_GRACE_SECONDS = 2.0
_STUCK_SECONDS = 10.0
"""An interrupt is raised when the main thread comes back from a collective; helpers that keep it
longer are ended."""

Work = Callable[..., None]
"""Called in a helper with its connection, its rank and what else was given."""


class Crew:
    """Helpers of a case. What they tell is read from their connections; an exception is raised.

    Args:
        work: What they do, importable.
        size: Devices; one fewer is helped with.
        arguments: What ``work`` is called with behind connection and rank.

    Attributes:
        asked: Whether helpers have something to say that nobody has heard to its end.

    Raises:
        BobError: No process can be started.
    """

    def __init__(self, work: Work, size: int, *arguments: Any) -> None:
        self.size = size
        self.asked = False
        self._closed = threading.Event()
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        if not hasattr(os, "killpg"):
            raise BobError(
                f"--devices={size} needs a system that forks and has groups of processes, such as "
                "Linux.",
                kind="devices",
            )
        try:
            processes = warm_processes(PRELOAD)
            for rank in range(1, size):
                mine, theirs = processes.Pipe()
                self._connections.append(mine)
                process = processes.Process(
                    target=_work,
                    args=(theirs, dict(os.environ), work, rank, *arguments),
                    name=f"bob device {rank}",
                )
                with without_main():
                    process.start()
                self._processes.append(process)
                theirs.close()
        except OSError as error:
            self.close()
            raise BobError(
                f"No process can be started for device {len(self._processes) + 1} of {size}: "
                f"{error}. Take a smaller --devices.",
                kind="devices",
            ) from error
        threading.Thread(target=self._watch, daemon=True).start()

    def tell(self, words: Any) -> None:
        """Say something to every helper.

        Tensors go through the pipe. ``send`` would put them into shared memory, of which containers
        have little.
        """
        written = pickle.dumps(words)
        for connection in self._connections:
            with suppress(OSError):
                connection.send_bytes(written)

    def hear(self, rank: int) -> Any:
        """What a helper says next.

        Raises:
            Exception: What it has raised; ``BobError`` where it has ended without a word.
        """
        connection, process = self._connections[rank - 1], self._processes[rank - 1]
        while not wait([connection, process.sentinel], timeout=_TICK_SECONDS):
            pass
        try:
            if not connection.poll():
                raise EOFError
            words = connection.recv()
        except (EOFError, OSError):
            raise BobError(self._ended(rank), kind="exit") from None
        if isinstance(words, BaseException):
            raise words
        return words

    def hear_all(self) -> list[Any]:
        """What every helper says next, in the order of their ranks; raises as ``hear``."""
        return [self.hear(rank) for rank in range(1, self.size)]

    def cause(self, error: Exception) -> Exception:
        """Why a case failed: another process's error, where this one only missed its answer."""
        if not isinstance(error, PeerLost):
            return error
        until = time.monotonic() + _LAST_WORDS_SECONDS
        waiting = set(range(1, self.size))
        found: Exception = error
        while waiting and time.monotonic() < until:
            for rank in list(waiting):
                if not wait(
                    [self._connections[rank - 1], self._processes[rank - 1].sentinel], 0.05
                ):
                    continue
                waiting.discard(rank)
                try:
                    self.hear(rank)
                except PeerLost:
                    continue
                except Exception as told:
                    if not isinstance(told, BobError) or told.kind != "exit":
                        return told
                    found = told
        return found

    def close(self) -> None:
        """End every helper, and those it has started."""
        self._closed.set()
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(_GRACE_SECONDS)
            self._kill(process)
            process.join()

    def _ended(self, rank: int) -> str:
        process = self._processes[rank - 1]
        process.join(_GRACE_SECONDS)
        status = process.exitcode
        how = f"with status {status}"
        if status is not None and status < 0:
            with suppress(ValueError):
                how = f"by {signal.Signals(-status).name}"
        memory = " Memory may have run out." if status == -signal.SIGKILL else ""
        return f"The process of device {rank + 1} of {self.size} was ended {how}.{memory}"

    def _watch(self) -> None:
        while not self._closed.wait(1.0):
            since = interrupts.since()
            if since is not None and time.monotonic() - since > _STUCK_SECONDS:
                for process in self._processes:
                    self._kill(process)

    @staticmethod
    def _kill(process: Any) -> None:
        """The helper leads a group of processes, its loaders among them."""
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(OSError, ValueError):
            process.kill()


def _work(
    connection: Connection, environment: Mapping[str, str], work: Work, rank: int, *arguments: Any
) -> None:
    """The whole of a helper."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the first process decides, and ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with suppress(EOFError):  # nobody has anything more to say
            work(connection, rank, *arguments)
    except BaseException as error:
        with suppress(OSError):
            connection.send(_sendable(error, rank))


def _sendable(error: BaseException, rank: int) -> Exception:
    if not isinstance(error, Exception):
        return BobError(
            f"{type(error).__name__}({error}) was raised in the process of device {rank + 1}, "
            "which it would have ended. Code of a case must return or raise an error.",
            kind="exit",
        )
    with suppress(Exception):
        if isinstance(pickle.loads(pickle.dumps(error)), type(error)):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    with suppress(ProcessLookupError):
        # loaders of the first process hold its sentinel open until they notice that it has gone
        while not wait([parent.sentinel], timeout=1.0):
            os.kill(parent.pid or 0, 0)
    os.killpg(0, signal.SIGKILL)
