"""How a session ends: its record closed, and its exit status true, whatever interrupts it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from bob import interrupts

TERMINATED = 75
"""Exit status of a session that SIGTERM ended: it may be run again (``EX_TEMPFAIL``)."""

if TYPE_CHECKING:
    from bob.session import BobSession


def with_lines(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback of which every place has a line; the same one where that is so already."""
    places: list[tuple[TracebackType, int | None]] = []
    place = traceback
    while place is not None:
        places.append((place, place.tb_lineno))  # its type says int, and it may be None
        place = place.tb_next
    if all(line is not None for _, line in places):
        return traceback
    made: TracebackType | None = None
    for place, line in reversed(places):
        known = place.tb_frame.f_code.co_firstlineno if line is None else line
        made = TracebackType(made, place.tb_frame, place.tb_lasti, known)
    return made


class Closing:
    """Hooks of pytest's end, around those of all other plugins.

    Args:
        find: The session whose record is open; none where there is none.
    """

    def __init__(self, find: Callable[[pytest.Config], BobSession | None]) -> None:
        self._find = find
        self._cut_short = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember it: ``pytest.exit`` may give any exit status.

        A signal may meet an instruction of no line, on which pytest's own report of it fails and
        with it the session's end; such a place gets the line its function begins at.
        """
        self._cut_short = True
        traceback = with_lines(excinfo.value.__traceback__)
        if traceback is not None and traceback is not excinfo.value.__traceback__:
            excinfo.value.__traceback__ = traceback
            excinfo.traceback = type(excinfo.traceback)(traceback)

    def status(self, exitstatus: int) -> str:
        """What MLflow says of a session that ends so."""
        if self._cut_short or interrupts.arrived() or exitstatus == pytest.ExitCode.INTERRUPTED:
            return "KILLED"
        return "FAILED" if exitstatus == pytest.ExitCode.INTERNAL_ERROR else "FINISHED"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Close the record, behind fixtures and other plugins, before pytest's summary."""
        bob = self._find(session.config)
        if bob is not None:
            bob.finish(status=self.status(exitstatus))


class Last:
    """Hooks around everything that happens at the end, pytest's summary too.

    Args:
        find: As of ``Closing``.
        closing: What closes the record.
    """

    def __init__(
        self, find: Callable[[pytest.Config], BobSession | None], closing: Closing
    ) -> None:
        self._find = find
        self._closing = closing

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Set the exit status right: of an interrupt, and of results that were lost."""
        if interrupts.hung_up():
            _leave_terminal()
        try:
            return (yield)
        except OSError:
            if not interrupts.hung_up():
                raise
            _leave_terminal()
            return None
        finally:
            bob = self._find(session.config)
            if bob is not None:
                self._settle(session, bob)
            if interrupts.arrived():
                ended = interrupts.terminated()
                session.exitstatus = TERMINATED if ended else pytest.ExitCode.INTERRUPTED

    def _settle(self, session: pytest.Session, bob: BobSession) -> None:
        if not bob.finished:  # another plugin's hook, or a fixture, failed before it was its turn
            bob.finish(status=self._closing.status(pytest.ExitCode.INTERNAL_ERROR))
        if interrupts.arrived():
            bob.cut_short()
        elif bob.lost and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _leave_terminal() -> None:
    """Send what is still printed nowhere, where the terminal is gone that it was for.

    Whoever writes to it gets an error, and pytest does so until its last line.
    """
    for descriptor in (1, 2):
        try:
            os.get_terminal_size(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
