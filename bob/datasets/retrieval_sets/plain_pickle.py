"""Reading a pickle as data. A pickle is a program: what it may name is held to a short list."""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bob.errors import BobError

_BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    MemoryError, OverflowError, RecursionError, TypeError, UnicodeDecodeError, ValueError,
)  # fmt: skip


class _Refused(Exception):
    """The pickle names something beyond plain values."""


def read_plain_pickle(path: Path) -> Any:
    """The content of a pickle of plain containers, numbers, strings and NumPy arrays or scalars.

    Raises:
        BobError: The file cannot be read, is no whole pickle, or names anything else: a class, a
            function, a module. Nothing that it names is imported or called. ``kind`` is
            ``dataset``.
    """
    try:
        with path.open("rb") as file:
            # Files of Python 2 hold byte strings; latin-1 keeps each byte.
            return _Plain(file, encoding="latin1").load()
    except _Refused as error:
        raise BobError(
            f"{path} is refused: it names {error}, and a ground truth is made of lists, numbers, "
            "strings and NumPy arrays alone. Running what a pickle names can do anything; get "
            "the file anew from its official place.",
            kind="dataset",
        ) from None
    except OSError as error:
        raise BobError(f"Cannot read {path}: {error}", kind="dataset") from None
    except _BROKEN as error:
        raise BobError(
            f"{path} is not a whole pickle ({type(error).__name__}: {error}). Download it again.",
            kind="dataset",
        ) from None


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise _Refused(f"{module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the persistent object {pid!r}")


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
        raise _Refused(f"the codec {encoding!r}")
    return codecs.encode(text, "latin1")


def _from_buffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> Any:
    """How pickles of protocol 5 carry arrays."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]


_ALLOWED: dict[tuple[str, str], Any] = {
    # NumPy's own functions, wherever a version of it keeps them.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): _Function(_from_buffer),
    ("_codecs", "encode"): _Function(_encode),
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
