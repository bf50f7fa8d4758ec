"""Checkpoints in other people's wrappings, how they are written, loaded and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.micro import resnet_micro
from bob.catalog import BackboneEntry, Weights
from bob.errors import BobError

State = dict[str, torch.Tensor]


def fresh(seed: int, make: Callable[[], nn.Module] = resnet_micro) -> State:
    torch.manual_seed(seed)
    return {key: value.clone() for key, value in make().state_dict().items()}


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


OURS, OTHER = fresh(1), fresh(2)
HEAD = {"fc.weight": torch.zeros(10, 128), "fc.bias": torch.zeros(10)}
PROJECTOR = {"projector.0.weight": torch.zeros(8, 128), "projector.1.norm.weight": torch.ones(8)}


def entry_of(path: Path, **fields: Any) -> BackboneEntry:
    base = {"key": "mine", "family": "x", "source": "bob.backbones.micro:resnet_micro"}
    weights = Weights(file=str(path))
    return BackboneEntry.model_validate({**base, "weights": weights, **fields})


def written(folder: Path, saved: Any, **options: Any) -> Path:
    path = folder / "saved.pth"
    torch.save(saved, path, **options)
    return path


def load(
    path: Path, make: Callable[[], nn.Module] = resnet_micro, **fields: Any
) -> tuple[State, tuple[str, ...]]:
    """The module's tensors after loading; one that kept its own value would show as NaN."""
    module = make()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
    remarks = load_checkpoint(module, entry_of(path, **fields))
    return module.state_dict(), remarks


def refusal(path: Path, make: Callable[[], nn.Module] = resnet_micro, **fields: Any) -> str:
    module = make()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(BobError) as caught:
        load_checkpoint(module, entry_of(path, **fields))
    assert caught.value.kind == "weights"
    assert equal(module.state_dict(), before)  # never in part
    return str(caught.value)


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key].to(value.dtype)) for key, value in first.items()
    )


WRAPPED: dict[str, Any] = {
    "torch.compile": under("_orig_mod.", OURS),
    "compiled in DDP": under("module._orig_mod.", OURS),
    "DDP in compiled": under("_orig_mod.module.", OURS),
    "compiled by block": {key.replace("layer1.", "layer1._orig_mod."): OURS[key] for key in OURS},
    "FSDP": {key.replace("layer2.0.", "layer2._fsdp_wrapped_module.0."): OURS[key] for key in OURS},
    "backbone and fc": {**under("module.backbone.", OURS), **under("module.", HEAD)},
    "module.model": under("module.model.", OURS),
    "model.backbone": under("model.backbone.", OURS),
    "net": under("net.", OURS),
    "model in state_dict": {"model": {"state_dict": OURS}},
    "dict net": {"net": OURS},
    "net in state_dict": {"state_dict": under("net.", OURS), "epoch": 3},
    "deep": {"a": {"b": {"c": under("x.y.z.module.", OURS)}}},
    "projector": {**OURS, **PROJECTOR},
    "projector beside": {**under("backbone.", OURS), **PROJECTOR},
    "MoCo": {
        "state_dict": {
            **under("module.encoder_q.", {**OURS, **HEAD}),
            **under("module.encoder_k.", {**OTHER, **HEAD}),
            "module.queue": torch.zeros(128, 16), "module.queue_ptr": torch.zeros(1),
        }
    },
    "DINO": {
        "student": under("module.backbone.", OTHER), "teacher": under("backbone.", OURS), "epoch": 1
    },
    "Lightning": {
        "state_dict": {**under("model.", OURS), "loss.weight": torch.ones(10)},
        "pytorch-lightning_version": "2.5", "callbacks": {}, "loops": {"fit": [1]},
    },
    "EMA": {"model": OURS, "model_ema": OTHER},
    "raw and averaged": {"state_dict": OURS, "state_dict_ema": under("module.", OTHER)},
    "optimizer": {
        "model": OURS,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "half": {key: value.half() if value.ndim else value for key, value in OURS.items()},
    "profiled": {**OURS, "total_ops": torch.zeros(1), "layer1.total_ops": torch.zeros(1)},
}  # fmt: skip
