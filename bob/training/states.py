"""What a training is made of, as plain data and back."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from bob.checkpoints.encoding import State
from bob.errors import BobError


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
        BobError: The model has other tensors.
    """
    kept: dict[str, torch.Tensor] = state["model"]
    own = dict(_tensors(model))
    other = [
        name
        for name in {**own, **kept}
        if name not in own or name not in kept or own[name].shape != kept[name].shape
    ]
    if other:
        raise BobError(
            f"The case's checkpoint does not fit its model: {len(other)} tensors differ, such as "
            f"{other[0]!r}. Run the case from its beginning, without going on."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(kept[name])
    optimiser.load_state_dict(state["optimiser"])
    scaler = _scaler(fabric)
    if scaler is not None and state["scaler"]:
        scaler.load_state_dict(state["scaler"])


def _tensors(model: nn.Module) -> Any:
    return chain(model.named_parameters(), model.named_buffers())


def _scaler(fabric: Fabric) -> Any:
    return getattr(fabric.strategy.precision, "scaler", None)
