"""A command in a pseudo-terminal, and the screen that its user sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bob.progress.words import cells

_PARTS = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;?]*[A-Za-z]|([\r\n\b])|([^\x1b\r\n\b])")


class Screen:
    """What a terminal shows of what was written to it: the few sequences that are written.

    Attributes:
        above: Lines that have left it at the top.
        row: Of the cursor, from 0.
        column: Of the cursor, from 0; the width where it hangs behind the last cell.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.above: list[str] = []
        self.row = self.column = 0
        self._cells = [[" "] * columns for _ in range(rows)]

    @property
    def lines(self) -> list[str]:
        """Its lines, without blanks at their ends."""
        return ["".join(line).rstrip() for line in self._cells]

    @property
    def text(self) -> str:
        """All that was ever on it and was not taken away."""
        return "\n".join([*self.above, *self.lines]).rstrip()

    def write(self, text: str) -> None:
        """Take what a program writes."""
        for number, command, control, character in (
            match.groups() for match in _PARTS.finditer(text)
        ):
            if command:
                self._command(command, int(number or 0))
            elif control:
                self._control(control)
            elif character:
                self._put(character)

    def _command(self, command: str, number: int) -> None:
        match command:
            case "A":
                self.row = max(0, self.row - max(1, number))
            case "C":
                self.column = min(self.columns - 1, self.column + max(1, number))
            case "K" | "J":
                self._cells[self.row][self.column :] = [" "] * max(0, self.columns - self.column)
                if command == "J":
                    for below in range(self.row + 1, self.rows):
                        self._cells[below] = [" "] * self.columns
            case "m":
                pass
            case _:
                raise ValueError(f"a sequence that this screen does not know: {command!r}")

    def _control(self, control: str) -> None:
        if control == "\r":
            self.column = 0
        elif control == "\b":
            self.column = max(0, min(self.column, self.columns - 1) - 1)
        else:
            self._down()

    def _down(self) -> None:
        if self.row < self.rows - 1:
            self.row += 1
            return
        self.above.append("".join(self._cells.pop(0)).rstrip())
        self._cells.append([" "] * self.columns)

    def _put(self, character: str) -> None:
        wide = cells(character)
        if self.column + wide > self.columns:
            self.column = 0
            self._down()
        self._cells[self.row][self.column : self.column + wide] = [character, ""][:wide]
        self.column += wide


def screens(
    words: Sequence[str],
    *,
    columns: int,
    rows: int,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    seconds: float = 240.0,
) -> Iterator[Screen]:
    """Run a command in a terminal of its own; the screen after each time it was written to.

    Raises:
        AssertionError: The command has not ended in time.
    """
    screen = Screen(columns, rows)
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        environment = {**os.environ, "TERM": "xterm", **(variables or {})}
        for name in ("COLUMNS", "LINES", "CI"):
            environment.pop(name, None)
        os.execvpe(words[0], list(words), environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    until = time.monotonic() + seconds
    rest = b""
    try:
        while True:
            assert time.monotonic() < until, screen.text
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                got = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not got:
                break
            # a sequence or a character may arrive in two parts
            whole = re.match(rb"(?s).*[^\x1b\[\d;\x80-\xff]", rest + got)
            taken = whole.group() if whole else b""
            rest = (rest + got)[len(taken) :]
            screen.write(taken.decode())
            yield screen
        screen.write(rest.decode(errors="replace"))
        yield screen
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
