"""Modules from a user's factory: each run has one of its own, whatever the factory keeps."""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from bob.backbones.copying import copy_module
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError
from bob.objects import import_object

_KEEPS: dict[str, bool] = {}
"""Whether a factory returns what it returned before; by source and arguments."""

_REFUSED: dict[str, str] = {}
"""Why a factory cannot be used; by source and arguments."""


def call_factory(entry: BackboneEntry, *, drop_path: float) -> nn.Module:
    """A module of the factory of an entry that nobody else holds.

    A factory is called twice, from the same random state, when a process first meets it. What it
    gives must be the same both times: one that keeps something random gives its first caller
    another module than those that follow, and scores would depend on the order of the runs. Where
    the two share modules or tensors, what it returns is copied, so that training never reaches what
    a later run gets. A factory under ``functools.cache`` or ``lru_cache`` is called behind its
    cache.

    Raises:
        BobError: kind ``backbone``: it cannot be imported or called, returns something else, does
            not give the same twice, or returns a module that it keeps and that cannot be copied.
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
    if entry.source.startswith("bob."):
        return _called(entry, factory, arguments)
    name = f"{entry.source}({_spell(arguments)})"
    if name not in _KEEPS and name not in _REFUSED:
        module = _met(entry, factory, arguments, name)
    else:
        module = _called(entry, factory, arguments)
    if name in _REFUSED:
        raise BobError(f"Backbone {entry.key!r}: {_REFUSED[name]}", kind="backbone")
    return copy_module(module, what=f"Backbone {entry.key!r}") if _KEEPS.get(name) else module


def _met(
    entry: BackboneEntry, factory: Callable[..., Any], arguments: dict[str, Any], name: str
) -> nn.Module:
    """The first of two modules; notes whether the factory keeps them, or cannot be used."""
    start = _random_state()
    module = _called(entry, factory, arguments)
    end = _random_state()
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return module  # shapes alone: there is nothing to keep
    _restore(start)
    again = _called(entry, factory, arguments)
    if _digest(_random_state()) != _digest(end) or state_digest(module) != state_digest(again):
        _REFUSED[name] = (
            f"{entry.source} gave another module when it was called a second time from the same "
            "random state. It keeps something that it drew at random, or draws from a generator "
            "of its own: scores would depend on which run came first. Build all of it anew at "
            "each call from torch's generator, or load its weights from a file named as "
            "checkpoint=FILE."
        )
    _KEEPS[name] = bool(_parts(module) & _parts(again))
    _restore(end)
    return module


def _called(
    entry: BackboneEntry, factory: Callable[..., Any], arguments: dict[str, Any]
) -> nn.Module:
    try:
        module = factory(**arguments)
    except BobError:
        raise
    except Exception as error:
        raise BobError(
            f"Backbone {entry.key!r}: {entry.source}({_spell(arguments)}) raised "
            f"{type(error).__name__}: {error}",
            kind="backbone",
        ) from error
    if not isinstance(module, nn.Module):
        raise BobError(
            f"Backbone {entry.key!r}: {entry.source} returned {type(module).__name__}; expected a "
            "torch.nn.Module that maps images to features.",
            kind="backbone",
        )
    return module


def _uncached(factory: Callable[..., Any]) -> Callable[..., Any]:
    while hasattr(factory, "cache_clear") and hasattr(factory, "__wrapped__"):
        factory = factory.__wrapped__
    return factory


def _parts(module: nn.Module) -> set[int]:
    """Addresses of a module's modules and of what its tensors hold."""
    tensors = [*module.parameters(), *module.buffers()]
    held = {tensor.data_ptr() for tensor in tensors if not nn.parameter.is_lazy(tensor)}
    return (held - {0}) | {id(part) for part in module.modules()}


def state_digest(module: nn.Module) -> str:
    """Hex SHA-256 of a module's state: parameters, buffers and what quantised modules pack."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        if nn.parameter.is_lazy(value):
            digest.update(b"not initialised")
            return
        whole = value.detach().cpu()
        if whole.is_quantized:
            whole = whole.dequantize()
        digest.update(whole.contiguous().view(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            _add(digest, value[key])
    elif isinstance(value, tuple | list):
        for part in value:
            _add(digest, part)
    else:
        digest.update(repr(value).encode())


def _random_state() -> tuple[Any, ...]:
    """Where the generators of torch, NumPy and Python stand."""
    return torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()


def _restore(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])


def _digest(state: tuple[Any, ...]) -> str:
    parts = (state[0].tolist(), [np.asarray(part).tolist() for part in state[1]], state[2])
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _accepts(factory: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _spell(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
