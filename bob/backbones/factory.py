"""Modules from a user's factory: each run has one of its own, whatever the factory keeps."""

from __future__ import annotations

import copy
import inspect
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from bob.catalog.schema import BackboneEntry
from bob.errors import BobError, first_line
from bob.objects import import_object


def call_factory(entry: BackboneEntry, *, drop_path: float) -> nn.Module:
    """A module of the factory of an entry that nobody else holds.

    A factory may keep what it built and return it again. What it returns is copied before anything
    is done to it, so that training never reaches what a later run gets. A factory under
    ``functools.cache`` or ``lru_cache`` is called behind its cache. A module that is seen again
    although random numbers of another seed went into it is refused: which seed's they were would
    depend on the order of the runs.

    Raises:
        BobError: kind ``backbone``: it cannot be imported or called, returns something else, or
            returns a random module that it built for another run.
    """
    factory = import_object(entry.source, what=f"backbone {entry.key!r}")
    if not callable(factory):
        raise BobError(
            f"Backbone {entry.key!r}: {entry.source} is not callable; name a function or class "
            "that returns a torch.nn.Module.",
            kind="backbone",
        )
    factory = _uncached(factory)
    arguments: dict[str, Any] = dict(entry.arguments)
    if drop_path and _accepts(factory, "drop_path_rate"):
        arguments.setdefault("drop_path_rate", drop_path)
    before = _RandomState.now()
    try:
        module = factory(**arguments)
    except BobError:
        raise
    except Exception as error:
        raise BobError(
            f"Backbone {entry.key!r}: {entry.source}({_spell(arguments)}) raised "
            f"{type(error).__name__}: {first_line(error)}",
            kind="backbone",
        ) from error
    if not isinstance(module, nn.Module):
        raise BobError(
            f"Backbone {entry.key!r}: {entry.source} returned {type(module).__name__}; expected a "
            "torch.nn.Module that maps images to features.",
            kind="backbone",
        )
    other = _SEEN.meet(module, before, _RandomState.now())
    if other:
        raise BobError(
            f"Backbone {entry.key!r}: {entry.source} returned {other} that it had built for "
            "another run, and random numbers went into it: scores would depend on which run came "
            "first. Build a new module at each call, or load its weights from a file named as "
            "checkpoint=FILE.",
            kind="backbone",
        )
    return _own_copy(entry, module)


def _uncached(factory: Callable[..., Any]) -> Callable[..., Any]:
    while hasattr(factory, "cache_clear") and hasattr(factory, "__wrapped__"):
        factory = factory.__wrapped__
    return factory


def _own_copy(entry: BackboneEntry, module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise BobError(
            f"Backbone {entry.key!r}: the module of {entry.source} cannot be copied "
            f"({type(error).__name__}: {first_line(error)}), and without a copy one run's training "
            "could reach the next. Keep tensors that are computed from parameters out of its "
            "attributes, and no locks, files or generators in it.",
            kind="backbone",
        ) from error


@dataclass(frozen=True)
class _RandomState:
    """Where the generators of torch, NumPy and Python stand."""

    torch: torch.Tensor
    numpy: Any
    python: Any

    @classmethod
    def now(cls) -> _RandomState:
        return cls(torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate())

    def restore(self) -> None:
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def same(self, other: _RandomState) -> bool:
        mine, others = (
            (
                state.torch.tolist(),
                [np.asarray(part).tolist() for part in state.numpy],
                state.python,
            )
            for state in (self, other)
        )
        return mine == others


@dataclass(frozen=True)
class _Drawn:
    """The random state before and after something was built that random numbers went into."""

    before: _RandomState
    after: _RandomState


@dataclass
class _Seen:
    """Modules and parameters that factories returned.

    Attributes:
        known: A reference to each, and what was drawn for it, if anything; by its address.
    """

    known: dict[int, tuple[weakref.ref[Any], _Drawn | None]] = field(default_factory=dict)

    def meet(self, module: nn.Module, before: _RandomState, after: _RandomState) -> str:
        """What of a module was built at random for another run; empty if nothing was.

        Where all of it was built from the same random state, the generators are left as that left
        them, so that what follows is the same too.
        """
        parts: list[tuple[str, Any]] = [
            *((f"the module {name or type(module).__name__}", part)
              for name, part in module.named_modules()),
            *((f"the parameter {name}", part) for name, part in module.named_parameters()),
        ]  # fmt: skip
        drawn = None if before.same(after) else _Drawn(before, after)
        earlier: _Drawn | None = None
        for what, part in parts:
            reference, then = self.known.get(id(part), (None, None))
            if reference is None or reference() is not part:
                self.known[id(part)] = (weakref.ref(part), drawn)
            elif then is not None and (drawn is not None or not then.before.same(before)):
                return what
            else:
                earlier = earlier or then
        if earlier is not None and drawn is None:
            earlier.after.restore()
        return ""


_SEEN = _Seen()


def _accepts(factory: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _spell(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
