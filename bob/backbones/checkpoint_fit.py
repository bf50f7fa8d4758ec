"""How well the tensors of a checkpoint fit a module, and how far they are from it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from bob.errors import some

State = dict[str, torch.Tensor]

HEADS = frozenset({"head", "fc", "classifier", "head_dist", "last_linear"})
"""Where classification heads lie."""

_CONSTANTS = frozenset({
    "attn_mask", "num_batches_tracked", "position_ids", "relative_coords_table",
    "relative_position_index", "total_ops", "total_params",
})  # fmt: skip
"""Last parts of keys that hold nothing learnt: a module makes them itself, or needs none."""

_BESIDE = re.compile(r"(decoder|mask|predict|proj|logit_|queue|temperature|loss|criterion)")
"""How names begin that belong to a training method; no feature goes through them."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Tensors of a checkpoint under one prefix, held against a module.

    Attributes:
        label: Where they lie: keys of dicts and parts of the prefix, joined by dots.
        state: Tensors by the module's keys, those the module lacks included.
        wanted: The module's own tensors.
        used: The keys of the file, with ``place``, that ``state`` was made of.
        place: Number of the dict in the file.
        resampled: Tensors that were brought to another shape, in words.
    """

    label: str
    state: State
    wanted: Mapping[str, torch.Tensor]
    used: frozenset[str]
    place: int
    resampled: tuple[str, ...] = ()

    @cached_property
    def found(self) -> frozenset[str]:
        """Wanted keys that are there with the right shape and kind."""
        return frozenset(
            key for key, value in self.wanted.items()
            if key in self.state and usable(self.state[key], value)
        )  # fmt: skip

    @cached_property
    def tied(self) -> frozenset[str]:
        """Wanted keys that the file lacks and whose tensor in the module is that of one found.

        ``safetensors.torch.save_model`` writes such a tensor once.
        """
        missing = self.wanted.keys() - self.state.keys()
        if not missing:
            return frozenset()
        filled = {_memory(self.wanted[key]) for key in self.found} - {None}
        return frozenset(key for key in missing if _memory(self.wanted[key]) in filled)

    @cached_property
    def uncounted(self) -> tuple[str, ...]:
        """Counters of batch norms that the file lacks; no feature depends on them."""
        return tuple(
            key for key in self.wanted
            if key.endswith("num_batches_tracked")
            and key not in self.state and key not in self.tied
        )  # fmt: skip

    @property
    def filled(self) -> int:
        """How many of the wanted tensors the file fills."""
        return len(self.found) + len(self.tied)

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Keys that belong to the encoder saved and that the module has no place for."""
        parts = {_family(key) for key in self.wanted}
        return tuple(
            key for key, value in self.state.items()
            if key not in self.wanted and value.numel() != 1 and _is_encoder(key, parts)
        )  # fmt: skip

    @cached_property
    def complete(self) -> bool:
        """Whether the module can be loaded with them, all of it."""
        return self.filled + len(self.uncounted) == len(self.wanted) and not self.unknown

    @property
    def nearness(self) -> tuple[int, int, int]:
        """Larger is nearer: right tensors, right names, tensors at all."""
        return len(self.found), len(self.state.keys() & self.wanted.keys()), len(self.state)

    def differences(self) -> str:
        """What keeps it from fitting, in words."""
        missing = [
            key for key in self.wanted
            if key not in self.state and key not in self.uncounted and key not in self.tied
        ]  # fmt: skip
        left_over = [
            key for key in self.state
            if key not in self.wanted and key.split(".", 1)[0] not in HEADS
        ]  # fmt: skip
        shapes, kinds = [], []
        for key, value in self.wanted.items():
            if key not in self.state or key in self.found:
                continue
            here = self.state[key]
            if here.shape != value.shape:
                shapes.append(f"{key} is {tuple(here.shape)}, expected {tuple(value.shape)}")
            else:
                kinds.append(f"{key} is {_kind(here)}, expected {_kind(value)}")
        return "; ".join(
            f"{len(details)} {what}{'' if len(details) == 1 else 's'} "
            f"({', '.join(details[:3])}{', ...' if len(details) > 3 else ''})"
            for what, details in (
                ("missing key", missing), ("unknown key", left_over), ("wrong shape", shapes),
                ("wrong type", kinds),
            )
            if details
        )  # fmt: skip


def usable(value: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a tensor can be copied into another without becoming something else.

    Whole numbers and floats of 8 bits do not pass for real ones: quantised weights mean nothing
    without their scales.
    """
    return (
        value.shape == target.shape
        and value.layout == torch.strided
        and not value.is_quantized
        and value.is_meta <= target.is_meta
        and value.is_complex() == target.is_complex()
        and value.is_floating_point() >= target.is_floating_point()
        and (
            value.dtype.itemsize > 1
            or not target.is_floating_point()
            or value.dtype == target.dtype
        )
    )


def same_values(first: Candidate, second: Candidate) -> bool:
    """Whether two candidates load the same numbers."""
    return all(
        torch.equal(first.state[key].to(value.dtype), second.state[key].to(value.dtype))
        for key, value in first.wanted.items()
        if key in first.found and key in second.found
    )


def in_words(keys: Iterable[str]) -> str:
    """The first keys of many, quoted."""
    return some(f"'{key}'" for key in keys)


def _family(key: str) -> str:
    """First part of a key without its number: ``layer`` of ``layer3.0.conv1.weight``."""
    return re.sub(r"\d+$", "", key.split(".", 1)[0])


def _is_encoder(key: str, parts: set[str]) -> bool:
    first, _, rest = key.partition(".")
    if first in HEADS or _BESIDE.match(first) or key.rsplit(".", 1)[-1] in _CONSTANTS:
        return False
    return not rest or _family(key) in parts or "norm" in first


def _memory(tensor: torch.Tensor) -> Hashable:
    """What two tensors have in common that are one; None for one without values."""
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.numel():
        return None
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_meta:
        return "a shape without values"
    layout = "" if tensor.layout == torch.strided else f"{tensor.layout} "
    return f"{layout}{tensor.dtype}".replace("torch.", "")
