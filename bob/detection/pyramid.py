"""Feature pyramids of the torchvision engine."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import FeaturePyramidNetwork

from bob.detection.features import FeatureMaps
from bob.errors import BobError
from bob.protocols.detection import DetectionRecipe


class Pyramid(nn.Module):
    """Feature maps of a backbone as a pyramid at the recipe's strides and one level more.

    Levels that the backbone lacks on top are pooled from the one below.

    Attributes:
        maps: The backbone's feature maps.
        out_channels: Channels of every level.
        names: Of the recipe's levels, finest first; the extra one comes after them.
    """

    def __init__(self, maps: FeatureMaps, recipe: DetectionRecipe) -> None:
        super().__init__()
        self.maps = maps
        self.out_channels = recipe.channels
        simple = uses_simple_neck(maps, recipe)
        self.own = recipe.strides if simple else maps.levels(recipe.strides)
        self.pooled = len(recipe.strides) - len(self.own) + 1
        self.names = tuple(f"s{stride}" for stride in recipe.strides)
        self.simple: nn.Module | None = None
        self.fpn: nn.Module | None = None
        if simple:
            self.simple = SimplePyramid(maps, recipe.strides, recipe.channels)
        else:
            channels = [maps.channels[maps.strides.index(stride)] for stride in self.own]
            self.fpn = FeaturePyramidNetwork(channels, recipe.channels)

    def forward(self, images: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Normalised images ``(b, 3, h, w)`` to levels by name, finest first."""
        found = self.maps(images)
        if self.simple is not None:
            levels: list[torch.Tensor] = self.simple(found[-1])
        else:
            assert self.fpn is not None
            picked = self.maps.at(found, self.own)
            levels = list(self.fpn(OrderedDict(enumerate(picked))).values())
        for _ in range(self.pooled):
            levels.append(functional.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return OrderedDict(zip((*self.names, "extra"), levels, strict=True))


def uses_simple_neck(maps: FeatureMaps, recipe: DetectionRecipe) -> bool:
    """Whether the pyramid is grown from the last map alone."""
    return recipe.neck == "simple" or (recipe.neck == "auto" and maps.plain)


def simple_scales(maps: FeatureMaps, strides: tuple[int, ...]) -> tuple[float, ...]:
    """How much the last map is enlarged for each stride.

    Raises:
        BobError: A stride is not 4, 2 or 1 times finer, or twice as coarse, as the last map.
    """
    scales = tuple(maps.strides[-1] / stride for stride in strides)
    if not set(scales) <= {4.0, 2.0, 1.0, 0.5, 0.25}:
        raise BobError(
            f"Backbone {maps.key!r}: a simple feature pyramid on maps of stride "
            f"{maps.strides[-1]} has levels of stride {maps.strides[-1] // 4} to "
            f"{maps.strides[-1] * 4}; the recipe asks for {', '.join(map(str, strides))}. Set "
            "`strides` in the recipe to some of those.",
            kind="backbone",
        )
    return scales


class SimplePyramid(nn.Module):
    """Levels grown from one map by transposed convolutions and pooling.

    Source: Y. Li et al., ViTDet, arXiv 2203.16527.
    """

    def __init__(self, maps: FeatureMaps, strides: tuple[int, ...], channels: int) -> None:
        super().__init__()
        width = maps.channels[-1]
        self.levels = nn.ModuleList(
            _level(width, channels, scale) for scale in simple_scales(maps, strides)
        )

    def forward(self, last: torch.Tensor) -> list[torch.Tensor]:
        """The last map ``(b, c, h, w)`` to one map per stride."""
        return [level(last) for level in self.levels]


def _level(width: int, channels: int, scale: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    if scale == 4.0:
        half, quarter = max(1, width // 2), max(1, width // 4)
        layers = [
            nn.ConvTranspose2d(width, half, 2, stride=2),
            LayerNorm2d(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        ]
        width = quarter
    elif scale == 2.0:
        layers = [nn.ConvTranspose2d(width, max(1, width // 2), 2, stride=2)]
        width = max(1, width // 2)
    elif scale < 1.0:
        layers = [nn.MaxPool2d(round(1 / scale))]
    layers += [
        nn.Conv2d(width, channels, 1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        LayerNorm2d(channels),
    ]
    return nn.Sequential(*layers)
