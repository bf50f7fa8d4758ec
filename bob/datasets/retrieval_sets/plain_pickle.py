"""Reading a pickle as data. A pickle is a program: what it may name is held to a short list."""

from __future__ import annotations

import codecs
import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bob.datasets.retrieval_sets.plain_arrays import (
    ARRAY,
    NotPlain,
    array_from_buffer,
    array_to_fill,
    dtype_named,
    scalar,
)
from bob.errors import BobError, first_line
from bob.regular_files import read_regular

_BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    MemoryError, OverflowError, RecursionError, TypeError, UnicodeDecodeError, ValueError,
)  # fmt: skip


def read_plain_pickle(path: Path) -> Any:
    """The content of a pickle of plain containers, numbers, strings and NumPy arrays of those.

    Raises:
        BobError: The file cannot be read, is no whole pickle, or names anything else: a class, a
            function, a module, an array of objects. Nothing that it names is imported or called.
            ``kind`` is ``dataset``.
    """
    try:
        content = read_regular(path)
        _check_memo(content)
        # Files of Python 2 hold byte strings; latin-1 keeps each byte.
        return _Plain(io.BytesIO(content), encoding="latin1").load()
    except NotPlain as error:
        raise BobError(
            f"{path} is refused: it names {error}, and a ground truth is made of lists, numbers, "
            "strings and NumPy arrays of numbers alone. Running what a pickle names can do "
            "anything; get the file anew from its official place.",
            kind="dataset",
        ) from None
    except OSError as error:
        raise BobError(f"Cannot read {path}: {error}", kind="dataset") from None
    except _BROKEN as error:
        raise BobError(
            f"{path} is not a whole pickle ({type(error).__name__}: {first_line(error)}). Download "
            "it again.",
            kind="dataset",
        ) from None


def _check_memo(content: bytes) -> None:
    """Refuse what costs memory or time without end before anything is made of it.

    Python sizes its table of repeated values by the highest number given, in seven bytes 64 GB. A
    tuple of twice the same tuple, thirty deep, has a billion items to whoever hashes it.
    """
    memo: dict[int, str] = {}
    latest = ""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        kind = opcode.name
        if kind in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(memo) if argument is None else int(argument)
            if number > count:
                raise NotPlain(f"the value number {number} and has no {count}")
            memo[number] = latest
            continue
        if kind in ("GET", "BINGET", "LONG_BINGET"):
            latest = memo.get(int(argument or 0), "")
            if "TUPLE" in latest or latest == "FROZENSET":
                raise NotPlain("a tuple within another twice over")
        else:
            latest = kind


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise NotPlain(f"{module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> Any:
        raise NotPlain(f"the persistent object {pid!r}")


class _Function:
    """A function that a pickle can call but not change: it takes no attributes."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"no attribute {name!r} may be set")

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 carry bytes."""
    if encoding != "latin1":
        raise NotPlain(f"the codec {encoding!r}")
    return codecs.encode(text, "latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    # Wherever a version of NumPy keeps them. NumPy's own trust their arguments, and some crash.
    ("numpy.core.multiarray", "_reconstruct"): _Function(array_to_fill),
    ("numpy.core.multiarray", "scalar"): _Function(scalar),
    ("numpy.core.numeric", "_frombuffer"): _Function(array_from_buffer),
    ("_codecs", "encode"): _Function(_encode),
    ("numpy", "ndarray"): ARRAY,
    ("numpy", "dtype"): _Function(dtype_named),
}
