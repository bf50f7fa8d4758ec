"""Keys of released checkpoints → keys of the modules they are loaded into.

Each mapping takes the tensors of a file by key and the module to load, and gives tensors that the
usual handling in ``bob.backbones.checkpoint`` (timm's own conversion, heads) brings home. What does
not look like its release comes back as it was, so that an error can name the keys of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def _stable_diffusion(state: State, module: nn.Module) -> State:
    from bob.backbones.stable_diffusion import from_release

    return from_release(state, module)


KEY_MAPS = {
    # DistributedDataParallel around a pair of encoders; the one that gradients trained is taken
    "mocov3": KeyMap(_under("module.base_encoder.")),
    "vicregl": KeyMap(_vicregl),
    # a depth network: the encoder beside its decoder under `scratch`
    "midas": KeyMap(_under("pretrained.model.")),
    "stable_diffusion": KeyMap(_stable_diffusion),
}
