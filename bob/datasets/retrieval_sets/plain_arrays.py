"""What a pickle says of NumPy's arrays, made into arrays of numbers or text and of nothing else.

NumPy's own functions for it take any type and state. An array of objects made from bytes is a
table of addresses, and whoever reads it crashes.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np


class NotPlain(Exception):
    """The pickle names something beyond plain values; the message says what."""


ARRAY = ("numpy.ndarray",)
"""Stands for the class, which a pickle may name as an argument and not call."""

_NAMES = re.compile(r"(?:b|[iu])(?:1|2|4|8)|f(?:2|4|8)|[SU]\d{1,6}|bool")
_ORDERS = ("<", ">", "=", "|")


class _Type:
    """A type of numbers or text as a pickle tells it, in two steps."""

    __slots__ = ("_dtype",)
    _dtype: np.dtype[Any]

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_dtype", np.dtype(name))

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"no attribute {name!r} may be set")

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's."""
        return self._dtype

    def __setstate__(self, state: Any) -> None:
        """Version, byte order, and what only types of several parts have."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in _ORDERS:
            raise NotPlain("a type of an unknown form")
        if any(part is not None for part in state[2:5]):
            raise NotPlain("a type of several parts")
        object.__setattr__(self, "_dtype", self._dtype.newbyteorder(state[1]))


class _Array(np.ndarray[Any, Any]):
    """An array whose state a pickle sets only to bytes that fit."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise NotPlain("an array of an unknown form")
        _, shape, kind, fortran, raw = state
        if isinstance(raw, str):  # of Python 2
            raw = raw.encode("latin1")
        dtype = _fitting(raw, kind, shape)
        fill: Any = super().__setstate__  # its stub asks for NumPy's bool, which it refuses
        fill((1, shape, dtype, bool(fortran), bytes(raw)))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotPlain("changes to an array")


def dtype_named(name: Any, *_: Any) -> _Type:
    """``numpy.dtype``: a type of numbers or text."""
    if not isinstance(name, str) or not _NAMES.fullmatch(name):
        raise NotPlain(f"the type {str(name)[:40]!r}")
    return _Type(name)


def array_to_fill(kind: Any, *_: Any) -> Any:
    """``_reconstruct``: an empty array, whose state comes later."""
    if kind is not ARRAY:
        raise NotPlain("an array of another class")
    return np.empty(0, np.int8).view(_Array)


def array_from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> Any:
    """``_frombuffer``: how pickles of protocol 5 carry arrays."""
    dtype = _fitting(raw, kind, shape)
    if order not in ("C", "F"):
        raise NotPlain("an array of an unknown order")
    return np.frombuffer(bytes(raw), dtype=dtype).reshape(shape, order=order).view(_Array)


def scalar(kind: Any, raw: Any = b"") -> Any:
    """``scalar``: one number or text."""
    if isinstance(raw, str):  # of Python 2
        raw = raw.encode("latin1")
    return np.frombuffer(bytes(raw), dtype=_fitting(raw, kind, (1,)))[0]


def _fitting(raw: Any, kind: Any, shape: Any) -> np.dtype[Any]:
    """The type, where so many bytes are an array of it and of a shape."""
    if not isinstance(kind, _Type):
        raise NotPlain("an array of no plain type")
    if not isinstance(raw, bytes | bytearray):
        raise NotPlain("an array of objects")
    sizes = isinstance(shape, tuple) and len(shape) <= 8
    if not sizes or not all(type(side) is int and side >= 0 for side in shape):
        raise NotPlain("an array of an unknown shape")
    dtype = kind.dtype
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(raw):
        raise NotPlain(f"an array of shape {shape} and has {len(raw)} bytes for it")
    return dtype
