"""Keys of released checkpoints → keys of the modules they are loaded into.

Each mapping takes the tensors of a file by key and the module to load, and gives tensors that the
usual handling in ``bob.backbones.checkpoint`` (timm's own conversion, heads) brings home. What does
not look like its release comes back as it was, so that an error can name the keys of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class KeyMap:
    """How one publisher's checkpoints are read.

    Attributes:
        convert: From the file's tensors and the module to tensors for the module.
    """

    convert: Callable[[State, nn.Module], State]


def _under(prefix: str) -> Callable[[State, nn.Module], State]:
    """What lies under a prefix, without it."""

    def convert(state: State, module: nn.Module) -> State:
        inner = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        return inner or state

    return convert


def _vicregl(state: State, module: nn.Module) -> State:
    """ConvNeXt's original names, and a norm that comes before pooling instead of after it."""
    from timm.models.convnext import checkpoint_filter_fn

    if "downsample_layers.0.0.weight" not in state:
        return state
    converted = checkpoint_filter_fn(dict(state), module)
    return {key.replace("head.norm.", "norm_pre."): value for key, value in converted.items()}


_EXPANDED = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
_SEPARABLE = ("conv_dw", "bn1", "conv_pw", "bn2")
_OWN_PARTS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


def _efficientnet_pytorch(state: State, module: nn.Module) -> State:
    """One row of blocks, each with names of its own, onto timm's stages of blocks."""
    if "_conv_stem.weight" not in state:
        return state
    names = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    names["_fc"] = "classifier"
    stages: Any = module.blocks
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(stages) for j in range(len(stage))]
    for index, block in enumerate(blocks):
        own = f"_blocks.{index}"
        expanded = f"{own}._expand_conv.weight" in state
        parts = zip(
            _OWN_PARTS if expanded else _OWN_PARTS[2:],
            _EXPANDED if expanded else _SEPARABLE,
            strict=True,
        )
        names |= {f"{own}.{theirs}": f"{block}.{ours}" for theirs, ours in parts}
    heads = {key: key.rpartition(".") for key in state}
    return {f"{names.get(head, head)}.{last}": state[key] for key, (head, _, last) in heads.items()}


def _stable_diffusion(state: State, module: nn.Module) -> State:
    from bob.backbones.stable_diffusion import from_release

    return from_release(state, module)


KEY_MAPS = {
    # DistributedDataParallel around a pair of encoders; the one that gradients trained is taken
    "mocov3": KeyMap(_under("module.base_encoder.")),
    "vicregl": KeyMap(_vicregl),
    # a depth network: the encoder beside its decoder under `scratch`
    "midas": KeyMap(_under("pretrained.model.")),
    # github.com/lukemelas/EfficientNet-PyTorch and what was made from it
    "efficientnet_pytorch": KeyMap(_efficientnet_pytorch),
    "stable_diffusion": KeyMap(_stable_diffusion),
}
