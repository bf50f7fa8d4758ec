"""Among all dicts and prefixes of a checkpoint, those that fit a module."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bob.backbones.checkpoint_fit import HEADS, Candidate, State, usable
from bob.backbones.stand_in import StandIn, as_tensor

Convert = Callable[[State, nn.Module], State]

_DEPTH = 5
_MOST_SPOTS = 24
_LONGEST = 64
"""Lists of more items hold other things than state dicts."""

_WRAPPED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of keys that torch.compile, FSDP and activation checkpointing put in anywhere."""

_SECOND = frozenset({
    "ema", "swa", "shadow", "avg", "averaged", "student", "momentum", "target", "key", "k",
})  # fmt: skip
"""Words of a name that is not the default where another fits as well."""

_USUAL = frozenset({
    "model", "model_state", "model_state_dict", "state_dict", "module", "net", "network",
    "backbone",
})  # fmt: skip
"""Names of the weights themselves: before any other name that fits as well."""

_NO_WEIGHTS = re.compile(
    r"(?:^|[._])(?:grads?|gradients?|deltas?|optim|optimizers?|opt_state|init|initial)(?=[._]|$)"
    r"|exp_avg|square_avg|momentum_buffer",
    re.IGNORECASE,
)
"""In a name: gradients, moments or what training began with, in the shapes of the weights."""


@dataclass(frozen=True)
class Place:
    """The tensors of one dict in a file.

    Attributes:
        name: Keys that lead to it, joined by dots; empty for the file itself.
        tensors: By their keys, less what wrappers put in.
    """

    name: str
    tensors: State


@dataclass(frozen=True)
class Spot:
    """A prefix in a place."""

    place: int
    prefix: str
    label: str
    size: int


def places(tree: Any) -> list[Place]:
    """Every dict of a file that holds tensors under names; pickled modules among them.

    Dicts in a list go by their number, and arrays of NumPy are tensors too.
    """
    return [Place(name, _unwrapped(tensors)) for name, tensors in _walk(tree, "", _DEPTH, set())]


def _walk(tree: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, State]]:
    if id(tree) in seen:
        return
    seen.add(id(tree))
    if isinstance(tree, StandIn):
        if isinstance(tree.state, dict) and "_modules" in tree.state:
            yield name, dict(_module_tensors(tree, "", 40))
            return
        tree = {**(tree.state if isinstance(tree.state, dict) else {}), **tree.items}
    elif isinstance(tree, (list, tuple)) and len(tree) <= _LONGEST:
        tree = {str(n): value for n, value in enumerate(tree) if isinstance(value, (dict, StandIn))}
    if not isinstance(tree, dict):
        return
    named = {key: as_tensor(value) for key, value in tree.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield name, tensors
    if depth:
        for key, value in named.items():
            yield from _walk(value, f"{name}.{key}" if name else key, depth - 1, seen)


def _module_tensors(module: StandIn, prefix: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    """The state dict of a module that was pickled whole, from its pickled attributes."""
    state = module.state if isinstance(module.state, dict) else {}
    passing = state.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _items(state.get(kind)):
            if isinstance(tensor, torch.Tensor) and name not in passing:
                yield f"{prefix}{name}", tensor.detach()
    for name, inner in _items(state.get("_modules")):
        if isinstance(inner, StandIn) and depth:
            yield from _module_tensors(inner, f"{prefix}{name}.", depth - 1)


def _items(mapping: Any) -> Iterable[tuple[Any, Any]]:
    return mapping.items() if isinstance(mapping, dict) else ()


def _unwrapped(tensors: State) -> State:
    bare = {
        ".".join(part for part in key.split(".") if part not in _WRAPPED): value
        for key, value in tensors.items()
    }
    return bare if len(bare) == len(tensors) else tensors


def spots(found: list[Place], wanted: State) -> list[Spot]:
    """Prefixes worth holding against a module, the likely ones first."""
    ranked: list[tuple[int, Spot]] = []
    for number, place in enumerate(found):
        under: Counter[str] = Counter()
        right: Counter[str] = Counter()
        for key, value in place.tensors.items():
            for start in (0, *(match.end() for match in re.finditer(r"\.", key))):
                under[key[:start]] += 1
                target = wanted.get(key[start:])
                right[key[:start]] += target is not None and usable(value, target)
        enough = max(2, len(wanted) // 4)
        for prefix, size in under.items():
            if right[prefix] or size >= enough or not prefix:
                label = ".".join(part for part in (place.name, prefix.rstrip(".")) if part)
                ranked.append((right[prefix], Spot(number, prefix, label, size)))
    ranked.sort(key=lambda pair: (-pair[0], -pair[1].size))
    return [spot for _, spot in ranked]


def named(label: str, name: str) -> bool:
    """Whether a label has a name among its parts: ``teacher`` in ``teacher.backbone``."""
    return f".{name.strip('.')}." in f".{label}."


def holds_no_weights(label: str, state: str = "") -> bool:
    """Whether a label names something other than trained weights, and ``state`` does not."""
    return bool(_NO_WEIGHTS.search(label)) and not _NO_WEIGHTS.search(state)


def direct(found: list[Place], chosen: list[Spot], wanted: State) -> list[Candidate]:
    """The tensors under each prefix as they are."""
    return [
        Candidate(
            label=spot.label,
            state=_inside(found, spot),
            wanted=wanted,
            used=frozenset(spot.prefix + key for key in wanted),
            place=spot.place,
        )
        for spot in chosen[:_MOST_SPOTS]
    ]  # fmt: skip


def converted(
    found: list[Place], chosen: list[Spot], wanted: State, module: nn.Module, convert: Convert
) -> list[Candidate]:
    """The tensors under each prefix after a conversion, and under what prefix that leaves."""
    candidates = []
    for spot in chosen[:_MOST_SPOTS]:
        inside = _inside(found, spot)
        try:
            state = dict(convert(dict(inside), module))
        except Exception:
            continue
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            continue
        kept = {key for key, value in inside.items() if state.get(key) is value}
        for inner in spots([Place("", state)], wanted)[:1]:
            state = _inside([Place("", state)], inner)
            candidates.append(
                Candidate(
                    label=spot.label,
                    state=state,
                    wanted=wanted,
                    used=frozenset(
                        spot.prefix + key for key in inside
                        if key.removeprefix(inner.prefix) in wanted
                        or not (key in kept or key.partition(".")[0] in HEADS)
                    ),
                    place=spot.place,
                    resampled=tuple(
                        f"{key} {tuple(inside[key].shape)} to {tuple(value.shape)}"
                        for key, value in state.items()
                        if key in wanted and key in inside and inside[key].shape != value.shape
                    ),
                )
            )  # fmt: skip
    return candidates


def _inside(found: list[Place], spot: Spot) -> State:
    return {
        key[len(spot.prefix) :]: value
        for key, value in found[spot.place].tensors.items()
        if key.startswith(spot.prefix)
    }


def own_conversion(module: nn.Module) -> Convert | None:
    """The conversion that timm has for an architecture: original names, other grids."""
    convert: Convert | None = getattr(
        sys.modules.get(type(module).__module__), "checkpoint_filter_fn", None
    )
    return convert


def default_first(candidates: list[Candidate]) -> list[Candidate]:
    """Raw weights before averaged, teacher before student, query and online before key and target.

    Then a usual name, then the shorter one, then the order of the file.
    """

    def rank(candidate: Candidate) -> tuple[int, bool, int, int]:
        parts = candidate.label.lower().split(".") if candidate.label else []
        words = [word for part in parts for word in part.split("_")]
        unusual = any(part not in _USUAL for part in parts)
        return sum(word in _SECOND for word in words), unusual, len(parts), candidate.place

    return sorted(candidates, key=rank)
