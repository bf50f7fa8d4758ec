"""Loading saved tensors into an entry's module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bob.backbones.checkpoint import load_checkpoint
from bob.catalog import BackboneEntry, Weights


def with_file(entry: BackboneEntry, path: Path, saved: object) -> BackboneEntry:
    torch.save(saved, path)
    return entry.model_copy(update={"weights": Weights(file=str(path))})


def loaded(entry: BackboneEntry, path: Path, saved: object, module: nn.Module) -> dict[str, Any]:
    """The module's tensors after loading; one that kept its own value would show as NaN."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    load_checkpoint(module, with_file(entry, path, saved))
    state: dict[str, Any] = module.state_dict()
    assert not [key for key, value in state.items() if torch.isnan(value).any()]
    return state


def same(converted: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(converted.float().flatten(), expected.float().flatten())
