"""Windowed attention for plain ViTs. Source: Y. Li et al., ViTDet, arXiv 2203.16527."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class WindowedBlock(nn.Module):
    """A ViT block that attends within windows of patch tokens.

    Class and register tokens are seen by every window; what the windows make of them is averaged.

    Args:
        block: Maps tokens ``(batch, tokens, channels)`` to the same shape.
        window: Side of a window, in tokens.
        prefix: Number of class and register tokens.

    Attributes:
        grid: Height and width of the token grid; set before each forward pass.
    """

    def __init__(self, block: nn.Module, window: int, prefix: int) -> None:
        super().__init__()
        self.block = block
        self.window = window
        self.prefix = prefix
        self.grid = (0, 0)

    def forward(self, tokens: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Tokens of every image to tokens, windows apart."""
        batch, _, channels = tokens.shape
        height, width = self.grid
        side = self.window
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        patches = patches.reshape(batch, height, width, channels)
        below, right = -height % side, -width % side
        patches = functional.pad(patches, (0, 0, 0, right, 0, below))
        rows, columns = (height + below) // side, (width + right) // side
        windows = (
            patches.reshape(batch, rows, side, columns, side, channels)
            .transpose(2, 3)
            .reshape(batch * rows * columns, side * side, channels)
        )
        spread = prefix.repeat_interleave(rows * columns, dim=0)
        out = self.block(torch.cat([spread, windows], dim=1), *args, **kwargs)
        prefix = out[:, : self.prefix].reshape(batch, rows * columns, self.prefix, channels).mean(1)
        patches = (
            out[:, self.prefix :]
            .reshape(batch, rows, columns, side, side, channels)
            .transpose(2, 3)
            .reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
        )
        return torch.cat([prefix, patches.reshape(batch, height * width, channels)], dim=1)


def windowed(module: nn.Module, window: int, global_every: int) -> list[WindowedBlock]:
    """Make all but every ``global_every``-th block of a plain ViT attend within windows, in place.

    Returns:
        The windowed blocks; empty where the module has no plain blocks (``blocks`` that take
        tokens alone), which then attends globally.
    """
    blocks: Any = getattr(module, "blocks", None)
    plain = (
        isinstance(blocks, nn.Sequential | nn.ModuleList) and getattr(module, "rope", None) is None
    )
    if not plain or not window:
        return []
    made = []
    prefix = int(getattr(module, "num_prefix_tokens", 0))
    for index, block in enumerate(list(blocks)):
        if (index + 1) % global_every:
            blocks[index] = WindowedBlock(block, window, prefix)
            made.append(blocks[index])
    return made
