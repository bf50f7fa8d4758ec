"""Progress written under pytest's capture: one line of the running case, or a block of several."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bob.case import Case, Progress
from bob.progress.board import Board, Running
from bob.progress.words import block, cells, cut, describe, log_line, row
from bob.shown import encodable

if TYPE_CHECKING:
    import pytest

_LINE_SECONDS = 30.0
_REDRAW_SECONDS = 0.2
_MOST_LINES = 12


class ProgressLine:
    """Writes to the terminal pytest reports on, past the capture of the running test.

    Args:
        config: The session's configuration.
        mode: ``live`` rewrites what it shows, ``lines`` writes a line now and then, ``off``
            nothing; ``auto`` is ``live`` on a terminal and ``lines`` elsewhere.
        several: Whether cases run beside each other, so that the whole is shown, with a line for
            each. What they print with ``--capture=no`` would go over that: then it is ``lines``.
        hours: What the plan estimates for a case, for how long the whole will take.
    """

    def __init__(
        self,
        config: pytest.Config,
        mode: str,
        *,
        several: bool = False,
        hours: Callable[[Case], float | None] = lambda case: None,
    ) -> None:
        self._reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._capture = config.pluginmanager.get_plugin("capturemanager")
        if mode == "auto":
            mode = "live" if self._reporter is not None and self._reporter.isatty else "lines"
        if several and mode == "live" and (_dumb() or config.getoption("capture", "") == "no"):
            mode = "lines"
        self._mode = mode if self._reporter is not None else "off"
        if self._reporter is not None:
            take_any_text(self._reporter._tw._file)
        self._several, self._hours = several, hours
        self._board = Board()
        self._written = self._drawn = time.monotonic()
        self._shown = 0

    def planned(self, ticket: str, case: Case) -> None:
        """A run was handed to the executor."""
        wanted = self._several and self._mode != "off"
        self._board.planned(ticket, case, self._hours(case) if wanted else None)

    def started(self, ticket: str) -> None:
        """A run has started."""
        self._board.started(ticket, time.monotonic())

    def moved(self, ticket: str, progress: Progress) -> None:
        """A run has come further."""
        self._board.moved(ticket, progress, time.monotonic())
        if not self._several:
            self._tell_one()

    def ended(self, ticket: str) -> None:
        """A run has ended."""
        self._board.ended(ticket, time.monotonic())

    def dropped(self, ticket: str) -> None:
        """A run was called off."""
        self._board.dropped(ticket)

    def tick(self) -> None:
        """Show several cases anew, where it is time; called while a test waits."""
        now = time.monotonic()
        if not self._several:
            return
        if self._mode == "live" and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._draw(now)
        elif self._mode == "lines" and now - self._written >= _LINE_SECONDS:
            self._written = now
            self._write_line(log_line(self._board.view(now)))

    def clear(self) -> None:
        """Take away what is shown live, so that pytest may write."""
        if not self._several:
            self._written = time.monotonic()
            if self._shown:
                self._overwrite(None)
        elif self._shown:
            self._emit(lambda: "\x1b[J")
            self._shown = 0

    def _tell_one(self) -> None:
        now = time.monotonic()
        due = self._mode == "lines" and now - self._written >= _LINE_SECONDS
        if not due and self._mode != "live":
            return
        for run in self._board.view(now).running[-1:]:
            if due:
                self._written = now
                self._write_line(describe(run))
            else:
                self._overwrite(run)

    def _write_line(self, text: str) -> None:
        self._emit(lambda: f"\n{text}\n")

    def _overwrite(self, run: Running | None) -> None:
        """Write behind what pytest has on its line, and step back to where pytest goes on."""

        def written() -> str:
            width, before = self._line()
            shown = f" {row(run, max(0, width - before - 3))}" if run is not None else ""
            taken = max(cells(shown), self._shown)
            blank = " " * (taken - cells(shown))
            self._shown = cells(shown)
            return shown + blank + "\b" * taken

        self._emit(written)

    def _draw(self, now: float) -> None:
        """Write below pytest's line, and go back to where pytest goes on."""

        def written() -> str:
            width, before = self._line()
            column = before % width
            if before and not column:  # the cursor hangs behind the last cell: no way back there
                return ""
            height = min(_MOST_LINES, shutil.get_terminal_size().lines // 2)
            made = block(self._board.view(now), width=width - 1, height=height)
            # escapes for what the terminal's encoding lacks are longer than that
            lines = [cut(self._encodable(text), width - 1) for text in made]
            self._shown = len(lines)
            back = f"\x1b[{len(lines)}A\r" + (f"\x1b[{column}C" if column else "")
            return "".join(f"\r\n{text}\x1b[K" for text in lines) + "\x1b[J" + back

        self._emit(written)

    def _line(self) -> tuple[int, int]:
        """Cells of the terminal's line, and of what pytest has written on it."""
        assert self._reporter is not None
        writer = self._reporter._tw
        return max(1, writer.fullwidth), writer.width_of_current_line

    def _emit(self, written: Callable[[], str]) -> None:
        """Write what is made while nothing is captured: only then the terminal tells its size.

        Where nothing can be written any more, as to a terminal that was closed, nothing is shown
        from there on: an error here would take the place of the interrupt that says so.
        """
        try:
            if self._capture is None:
                self._print(written())
                return
            with self._capture.global_and_fixture_disabled():
                self._print(written())
        except OSError:
            self._mode = "off"

    def _print(self, text: str) -> None:
        # Past pytest's writer, which would count these characters as part of its own line.
        assert self._reporter is not None
        stream = self._reporter._tw._file
        stream.write(self._encodable(text))
        stream.flush()

    def _encodable(self, text: str) -> str:
        assert self._reporter is not None
        return encodable(text, getattr(self._reporter._tw._file, "encoding", None))


def _dumb() -> bool:
    return os.environ.get("TERM", "dumb") == "dumb"


def take_any_text(stream: object) -> None:
    """Let a stream write escapes for characters that its encoding lacks, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None and getattr(stream, "errors", "") == "strict":
        reconfigure(errors="backslashreplace")
