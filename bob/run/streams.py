"""Standard input, output and error stay open while code of others runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_NAMES = {0: "stdin", 1: "stdout", 2: "stderr"}


@contextmanager
def kept_open(who: str, remarks: list[str]) -> Iterator[None]:
    """Refuse to close the three streams, and put back descriptors that are closed or redirected.

    Args:
        who: Whose code runs in the block, such as ``backbone my_net``.
        remarks: Takes a sentence for each stream that was to be closed.
    """
    copies = {number: _copy(number) for number in _NAMES}
    files = {number: _file(number) for number in _NAMES}
    refused: dict[str, None] = {}
    shadowed = [
        (stream, method)
        for name in _NAMES.values()
        for stream in _parts(getattr(sys, name), getattr(sys, f"__{name}__"))
        for method in ("close", "detach")
        if _shadow(stream, method, _refusal(f"sys.{name}.{method}()", refused))
    ]
    try:
        yield
    finally:
        for stream, method in shadowed:
            with suppress(AttributeError):
                delattr(stream, method)
        remarks += [f"{who} called {call}; it was refused" for call in refused]
        for number, copy in copies.items():
            if copy is None:
                continue
            if _file(number) != files[number]:
                os.dup2(copy, number)
                remarks.append(
                    f"{who} left the descriptor of {_NAMES[number]} closed or redirected; it was "
                    "put back"
                )
            os.close(copy)


def _copy(number: int) -> int | None:
    with suppress(OSError):
        return os.dup(number)
    return None


def _file(number: int) -> tuple[int, int] | None:
    with suppress(OSError):
        facts = os.fstat(number)
        return facts.st_dev, facts.st_ino
    return None


def _parts(*streams: Any) -> list[Any]:
    """Streams and what they write to."""
    whole = [stream for stream in streams if stream is not None]
    return [*whole, *(part for stream in whole if (part := getattr(stream, "buffer", None)))]


def _refusal(call: str, refused: dict[str, None]) -> Callable[[], None]:
    def refuse() -> None:
        refused[call] = None

    return refuse


def _shadow(stream: Any, method: str, refuse: Callable[[], None]) -> bool:
    """Put a method of the object's own before that of its class, where it can have one."""
    if method in getattr(stream, "__dict__", {}) or not hasattr(stream, method):
        return False
    try:
        setattr(stream, method, refuse)
    except AttributeError:
        return False
    return True
