"""Copies of modules that share nothing with what they were made of."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import nn

from bob.errors import BobError, first_line


def copy_module(module: nn.Module, *, what: str) -> nn.Module:
    """A deep copy of a module.

    A function among its attributes, such as ``net.forward = lambda x: net.features(x)``, is not
    copied by Python: the copy would run the module it was made of.

    Args:
        module: It is left as it is.
        what: The backbone, for messages.

    Raises:
        BobError: kind ``backbone``: it cannot be copied, or its copy would refer back to it.
    """
    for name, part in module.named_modules():
        if _copies_itself(type(part)):
            continue
        for attribute, function in _functions(part):
            if _holds_module(function):
                place = ".".join(filter(None, (name, attribute)))
                raise BobError(
                    f"{what}: a copy of it would run the original, because its attribute {place} "
                    "is a function that holds the module it was made with. Write a class with a "
                    "method of that name.",
                    kind="backbone",
                )
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise BobError(
            f"{what}: its module cannot be copied ({type(error).__name__}: {first_line(error)}), "
            "and without a copy one training could reach the next. Keep tensors that are computed "
            "from parameters out of its attributes, and no locks, files or generators in it.",
            kind="backbone",
        ) from error


def _copies_itself(kind: type[nn.Module]) -> bool:
    """Whether a class says how it is copied, as a compiled module does."""
    return hasattr(kind, "__deepcopy__") or kind.__setstate__ is not nn.Module.__setstate__


def _functions(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        inner = value.values() if isinstance(value, dict) else (value,)
        for entry in inner:
            if isinstance(entry, FunctionType | partial):
                yield name, entry


def _holds_module(function: Any) -> bool:
    held: list[Any] = []
    if isinstance(function, partial):
        held += [*function.args, *function.keywords.values(), function.func]
    else:
        held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # not filled yet
                continue
    return any(
        isinstance(value, nn.Module | torch.Tensor)
        or isinstance(getattr(value, "__self__", None), nn.Module)
        or (isinstance(value, FunctionType | partial) and _holds_module(value))
        for value in held
    )
