"""Output of the command ``bob``: nothing in it acts on a terminal, and any encoding will do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from bob.shown import encodable, visible


class Shown:
    """A stream that writes control characters, and what its encoding lacks, as escapes.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        r"""Write text; lines may end in ``\n`` or ``\r\n``."""
        lines = (visible(part, keep="\n\t") for part in text.split("\r\n"))
        self._stream.write(encodable("\r\n".join(lines), getattr(self._stream, "encoding", None)))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def shown_streams() -> Iterator[None]:
    """Standard output and error through ``Shown``."""
    out, err = cast(TextIO, Shown(sys.stdout)), cast(TextIO, Shown(sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield
