"""Signs by which tensors that are no plain weights are known."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator

import torch

from bob.backbones.checkpoint_fit import Candidate, State, in_words

_SCALE = re.compile(r"(?:_scale(?:_inv|_2)?|_zero_point)$")
_QUANTISED = re.compile(
    r"\.(?:SCB|qweight|qzeros|weight_format|weight\.(?:absmax|quant_map|quant_state\..*|_scale))$"
)
"""Names that bitsandbytes, GPTQ, AWQ and quanto put beside quantised weights."""

_ADAPTER = re.compile(r"(?:^|\.)(?:lora_\w+|base_layer)(?:\.|$)")
_FLAT = re.compile(r"(?:^|\.)_?flat_param(?:_\d+)?$")


def scales(candidate: Candidate, tensors: State) -> tuple[str, ...]:
    """Scales and zero points that belong to weights taken, and that the module has no place for.

    Args:
        candidate: What is to be taken.
        tensors: All tensors of its dict in the file, by their keys there.

    Returns:
        Their keys: ``x.weight_scale`` beside ``x.weight``, and one number ``x.input_scale``.
    """
    if not any(map(_SCALE.search, tensors)):
        return ()
    own = _beside(candidate.state, candidate.found, candidate.wanted)
    in_file = _beside(tensors, candidate.used & tensors.keys(), candidate.used)
    return tuple(dict.fromkeys((*own, *in_file)))


def _beside(tensors: State, taken: frozenset[str], known: Container[str]) -> Iterator[str]:
    for key, value in tensors.items():
        match = _SCALE.search(key)
        if match and key not in known:
            weight = f"{key.rpartition('.')[0]}.weight"
            if key[: match.start()] in taken or (value.numel() == 1 and weight in taken):
                yield key


def quantised(candidate: Candidate) -> str:
    """What says that a candidate holds quantised weights, in words; empty if nothing does."""
    signs = [key for key in candidate.state if _QUANTISED.search(key)]
    there = frozenset(candidate.state.keys() & candidate.wanted.keys())
    signs += _beside(candidate.state, there, candidate.wanted)
    if not signs and not any(
        _is_quantised(candidate.state[key])
        for key, value in candidate.wanted.items()
        if key in candidate.state and value.is_floating_point()
    ):
        return ""
    return quantised_words(signs)


def quantised_words(names: Iterable[str]) -> str:
    """What such a file is and what to do, with the names of its scales."""
    listed = in_words(names)
    with_scales = f" with scales ({listed})" if listed else ""
    return f"holds quantised weights{with_scales}; save it dequantised"


def advice(candidate: Candidate) -> str:
    """What the nearest candidate is, where its keys say so, and what to do about it."""
    adapters = [key for key in candidate.state if _ADAPTER.search(key)]
    if adapters:
        return (
            f"It holds LoRA adapters ({in_words(adapters)}): merge them into the weights "
            "(peft: merge_and_unload()) and save the whole"
        )
    flat = [key for key in candidate.state if _FLAT.search(key)]
    if flat:
        return (
            f"It holds the flat parameters of FSDP ({in_words(flat)}): save the full state dict "
            "(StateDictType.FULL_STATE_DICT)"
        )
    kind = quantised(candidate)
    return f"It {kind}" if kind else "Name the architecture the weights were saved from"


def _is_quantised(tensor: torch.Tensor) -> bool:
    return bool(tensor.is_quantized) or tensor.dtype.itemsize == 1
