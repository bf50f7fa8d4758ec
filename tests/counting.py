"""A backbone that counts the images it runs on, as a user would bring it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bob.backbones.micro import pooled_pixels

SEEN: list[int] = []
BUILDS: list[int] = []


def net() -> nn.Module:
    """Mean colours of a grid, and a count of every image that went through."""
    module = pooled_pixels(8)
    BUILDS.append(1)

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        images: torch.Tensor = inputs[0]
        SEEN.append(len(images))

    module.register_forward_pre_hook(count)
    return module
