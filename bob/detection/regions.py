"""Features of regions, of one size each: aligned RoIAlign, by matrix products on small maps.

Source: K. He et al., Mask R-CNN, arXiv 1703.06870, with the half-pixel shift that detectron2 calls
``ROIAlignV2``. Along each axis a pooled cell is a fixed weighting of the map's cells, so that a
region is two matrix products. On small maps these take a fraction of the time of torchvision's
kernel, whose backward pass adds up sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision.ops import MultiScaleRoIAlign, roi_align

SMALL_MAP = 32 * 32
"""Cells of a map up to which matrix products are used."""


class RegionPool(nn.Module):
    """Regions of one map to squares of cells.

    Args:
        size: Cells along each side of the result.
        stride: Pixels per map cell.
        samples: Samples along each side of a cell; 0 for as many as it spans map cells.
    """

    def __init__(self, size: int, stride: int, samples: int) -> None:
        super().__init__()
        self.size, self.stride, self.samples = size, stride, samples

    def forward(self, maps: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """Maps ``(b, c, h, w)`` to ``(n, c, size, size)``.

        Args:
            maps: One an image.
            regions: Position of the image, then corners in pixels, ``(n, 5)``; without gradient.
        """
        if maps.shape[-2] * maps.shape[-1] > SMALL_MAP:
            out: torch.Tensor = roi_align(
                maps, regions.to(maps.dtype), self.size, 1 / self.stride, self.samples, aligned=True
            )
            return out
        with torch.autocast(maps.device.type, enabled=False):
            return self._products(maps, regions.detach().float()).to(maps.dtype)

    def _products(self, maps: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        _, channels, height, width = maps.shape
        count, size = len(regions), self.size
        corners = regions[:, 1:] / self.stride - 0.5
        rows = self._weights(corners[:, 1], corners[:, 3], height)
        columns = self._weights(corners[:, 0], corners[:, 2], width)
        # channels last, so that each product has one wide side
        flat = maps.float().permute(0, 2, 3, 1).reshape(len(maps), height, width * channels)
        picked = rows @ flat.index_select(0, regions[:, 0].long())
        picked = picked.view(count, size, width, channels).transpose(1, 2)
        out = columns @ picked.reshape(count, width, size * channels)
        return out.view(count, size, size, channels).permute(0, 3, 2, 1)

    def _weights(self, low: torch.Tensor, high: torch.Tensor, cells: int) -> torch.Tensor:
        """Share of each map cell in each pooled cell of an axis, ``(n, size, cells)``.

        Args:
            low: Where regions begin, in map cells, ``(n,)``.
            high: Where they end.
            cells: Of the map.
        """
        span = (high - low)[:, None, None] / self.size
        counts = torch.full_like(span, self.samples) if self.samples else span.ceil()
        most = self.samples or max(1, int(counts.max()) if len(counts) else 1)
        sample = torch.arange(most, device=low.device)
        cell = torch.arange(self.size, device=low.device)[:, None]
        at = low[:, None, None] + (cell + (sample + 0.5) / counts.clamp(min=1)) * span
        used = (sample < counts) & (at >= -1) & (at <= cells)
        distance = at.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=low.device)
        shares = (1 - distance.abs()).clamp(min=0) * used[..., None]
        return shares.sum(2) / counts.clamp(min=1)


class PyramidPool(MultiScaleRoIAlign):
    """Regions of a pyramid, each from the level that suits its size.

    torchvision's heads take their own class only, which neither aligns nor multiplies.

    Args:
        names: Of the levels, finest first.
        strides: Of the levels.
        size: Cells along each side of the result.
        samples: As of ``RegionPool``.
        side: Of a square region in pixels from which on the finest level is used, up to twice it.
    """

    def __init__(
        self, names: Sequence[str], strides: Sequence[int], *, size: int, samples: int, side: float
    ) -> None:
        super().__init__(list(names), size, samples)
        self.side = side
        self.levels = nn.ModuleList(RegionPool(size, stride, samples) for stride in strides)

    def forward(
        self,
        x: dict[str, torch.Tensor],
        boxes: list[torch.Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """Levels ``(b, c, h, w)`` and boxes ``(n, 4)`` an image to ``(sum of n, c, size, size)``.

        Args:
            x: Levels by name; others than the named ones are passed over.
            boxes: Corners in pixels.
            image_shapes: Not needed; strides are known.
        """
        corners = torch.cat(boxes)
        image = torch.cat([box.new_full((len(box), 1), place) for place, box in enumerate(boxes)])
        regions = torch.cat([image, corners], dim=1)
        area = (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(dim=1)
        octave = torch.log2(area.sqrt() / self.side + 1e-6).floor()
        wanted = octave.clamp(0, len(self.featmap_names) - 1)
        first = x[self.featmap_names[0]]
        out = first.new_zeros((len(corners), first.shape[1], *self.output_size))
        for place, (name, pool) in enumerate(zip(self.featmap_names, self.levels, strict=True)):
            (chosen,) = torch.where(wanted == place)
            out = out.index_copy(0, chosen, pool(x[name], regions[chosen]).to(out.dtype))
        return out
