"""What a training is made of, as plain data and back."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from bob.checkpoints.encoding import State


class Unfit(Exception):
    """Why a state cannot be taken up, in words."""


def training_state(model: nn.Module, optimiser: torch.optim.Optimizer, fabric: Fabric) -> State:
    """Parameters and buffers of a model, its optimiser with the rates, and a gradient scaler."""
    scaler = _scaler(fabric)
    return {
        "model": dict(_tensors(model)),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
    }


def take_up_training(
    state: State, model: nn.Module, optimiser: torch.optim.Optimizer, fabric: Fabric
) -> None:
    """Put a model and its optimiser into a state of ``training_state``.

    Raises:
        Unfit: The model has other tensors, or such as cannot be written to; nothing was changed.
    """
    kept: dict[str, torch.Tensor] = state["model"]
    own = dict(_tensors(model))
    other = [
        name
        for name in {**own, **kept}
        if name not in own or name not in kept or own[name].shape != kept[name].shape
    ]
    if other:
        raise Unfit(f"{len(other)} tensors of the model differ, such as {other[0]!r}")
    fixed = [name for name, tensor in own.items() if not _takes_values(tensor)]
    changed = [name for name in fixed if not torch.equal(own[name].cpu(), kept[name].cpu())]
    if changed:
        raise Unfit(f"{changed[0]!r} cannot be written to: its elements share memory")
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in fixed:
                tensor.copy_(kept[name])
    optimiser.load_state_dict(state["optimiser"])
    scaler = _scaler(fabric)
    if scaler is not None and state["scaler"]:
        scaler.load_state_dict(state["scaler"])


def _takes_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor can be written to: no constant of inference mode, no expanded view."""
    sizes_and_strides = zip(tensor.shape, tensor.stride(), strict=True)
    expanded = any(size > 1 and not stride for size, stride in sizes_and_strides)
    return not expanded and not tensor.is_inference()


def _tensors(model: nn.Module) -> Any:
    return chain(model.named_parameters(), model.named_buffers())


def _scaler(fabric: Fabric) -> Any:
    return getattr(fabric.strategy.precision, "scaler", None)
