"""What takes the place of an object in a checkpoint."""

from __future__ import annotations

import math
import re
from typing import Any

import torch

_NUMBERS = re.compile(r"[fiu][1248]|b1")


class _Fillable(type):
    """Lets torch's restricted unpickler put items into a stand-in as it does into a ``dict``.

    It fills nothing but what it finds in a list of types, and subclasses of ``dict`` are common
    in checkpoints (settings of yacs, EasyDict, ``defaultdict``).
    """

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is dict

    __hash__ = type.__hash__


class StandIn(list[Any], metaclass=_Fillable):
    """Takes what an object of any class would be given, and does nothing with it.

    A list, because torch's unpickler appends to nothing else.

    Attributes:
        arguments: What it was called with.
        items: Of a mapping.
        state: Of an object with attributes.
    """

    arguments: tuple[Any, ...]
    items: dict[Any, Any]
    state: Any

    def __new__(cls, *arguments: object) -> StandIn:
        """A stand-in, also where the class to make is itself one."""
        made = super().__new__(StandIn)
        made.arguments, made.items, made.state = arguments, {}, None
        return made

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # type: ignore[assignment]


def stand_in_class(*arguments: object) -> type[StandIn]:
    """Takes the place of ``getattr``, by which older pickles name a class within a class."""
    return StandIn


def as_tensor(value: Any) -> Any:
    """The tensor of an array of NumPy's that was read as data; anything else as it is."""
    if not isinstance(value, StandIn) or not isinstance(value.state, tuple):
        return value
    match value.state:
        case (int(), tuple(shape), StandIn() as kind, is_fortran, bytes(raw)):
            array = _array(shape, kind, raw, "F" if is_fortran else "C")
            return value if array is None else array
    return value


def _array(shape: tuple[Any, ...], kind: StandIn, raw: bytes, order: str) -> torch.Tensor | None:
    import numpy as np

    name = kind.arguments[0] if kind.arguments else None
    if (
        not isinstance(name, str)
        or not _NUMBERS.fullmatch(name)
        or not isinstance(kind.state, tuple)
    ):
        return None
    sign = ">" if kind.state[1:2] == (">",) else "<"
    dtype = np.dtype(sign + name)
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        return None
    if math.prod(shape) * dtype.itemsize != len(raw):
        return None
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))
