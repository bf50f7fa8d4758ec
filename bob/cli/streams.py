"""Output of the command ``bob``: nothing in it acts on a terminal, and any encoding will do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from bob.errors import BobError
from bob.shown import encodable, visible


class Shown:
    """A stream that writes control characters, and what its encoding lacks, as escapes.

    Args:
        stream: Where to; none where it was closed before the command began.
        needed: Whether it is a failure when text cannot be written.

    Raises:
        BobError: They cannot, and are needed.
        BrokenPipeError: Nobody reads them any more.
    """

    def __init__(self, stream: TextIO | None, *, needed: bool = True) -> None:
        self._stream, self._needed = stream, needed

    def write(self, text: str) -> int:
        r"""Write text; lines may end in ``\n`` or ``\r\n``."""
        lines = (visible(part, keep="\n\t") for part in text.split("\r\n"))
        if self._stream is not None:
            with self._told():
                encoding = getattr(self._stream, "encoding", None)
                self._stream.write(encodable("\r\n".join(lines), encoding))
        return len(text)

    def flush(self) -> None:
        """Have all that was written arrive."""
        if self._stream is not None:
            with self._told():
                self._stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self._give_up()
            if isinstance(error, BrokenPipeError):
                raise
            if self._needed:
                raise BobError(f"The output cannot be written ({error}).", kind="output") from None

    def _give_up(self) -> None:
        """What is left in the stream goes nowhere: Python would try again when it ends."""
        assert self._stream is not None
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def shown_streams() -> Iterator[None]:
    """Standard output and error through ``Shown``."""
    out = cast(TextIO, Shown(sys.stdout))
    err = cast(TextIO, Shown(sys.stderr, needed=False))
    with redirect_stdout(out), redirect_stderr(err):
        yield
