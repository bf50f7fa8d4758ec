"""The network: a convolutional stem, gated depthwise blocks at stride 4, attention at stride 8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(batch, channels, height, width)``."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of the same shape."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GatedMlp(nn.Module):
    """A perceptron per pixel in which one half of the hidden channels gates the other."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.widen = nn.Conv2d(channels, 2 * hidden, 1)
        self.narrow = nn.Conv2d(hidden, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps ``(batch, channels, height, width)``, the input added."""
        value, gate = self.widen(self.norm(maps)).chunk(2, dim=1)
        return maps + self.narrow(value * functional.silu(gate))


class LocalBlock(nn.Module):
    """Looks around each pixel with a depthwise convolution, then mixes its channels."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.around = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.mlp = GatedMlp(channels, hidden)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps ``(batch, channels, height, width)``."""
        return self.mlp(maps + self.around(self.norm(maps)))


class GlobalBlock(nn.Module):
    """Lets every pixel attend to every other; a depthwise convolution tells it where it is.

    There is no position embedding of a fixed size, so that images may have any.
    """

    def __init__(self, channels: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = ChannelNorm(channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.mlp = GatedMlp(channels, hidden)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps ``(batch, channels, height, width)``."""
        maps = maps + self.place(maps)
        batch, channels, height, width = maps.shape
        packed = self.query_key_value(self.norm(maps))
        packed = packed.reshape(batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = packed.transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(-1, -2).reshape(batch, channels, height, width)
        return self.mlp(maps + self.out(mixed))


class PebbleNet(nn.Module):
    """Two stages: local blocks on a map of stride 4, global blocks on one of stride 8.

    Args:
        channels: Of the two stages.
        depths: Blocks of the two stages.
        heads: Of the attention.

    Attributes:
        num_features: Channels of the pooled features.
        feature_info: Channels and stride of the map that each stage ends with, as timm tells them.
    """

    def __init__(
        self,
        channels: tuple[int, int] = (32, 80),
        depths: tuple[int, int] = (2, 2),
        heads: int = 4,
    ) -> None:
        super().__init__()
        near, far = channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, near // 2, 3, stride=2, padding=1),
            ChannelNorm(near // 2),
            nn.SiLU(),
            nn.Conv2d(near // 2, near, 3, stride=2, padding=1),
        )
        self.local = nn.Sequential(*(LocalBlock(near, 2 * near) for _ in range(depths[0])))
        self.merge = nn.Sequential(ChannelNorm(near), nn.Conv2d(near, far, 2, stride=2))
        self.wide = nn.Sequential(
            *(GlobalBlock(far, far + far // 2, heads) for _ in range(depths[1]))
        )
        self.norm = nn.LayerNorm(far)
        self.num_features = far
        self.feature_info = [
            {"num_chs": near, "reduction": 4, "module": "local"},
            {"num_chs": far, "reduction": 8, "module": "wide"},
        ]

    def _maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        near = self.local(self.stem(images))
        return [near, self.wide(self.merge(near))]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images ``(batch, 3, height, width)`` to features ``(batch, num_features)``."""
        return self.norm(self._maps(images)[-1].mean(dim=(2, 3)))

    def forward_intermediates(
        self,
        images: torch.Tensor,
        indices: Sequence[int] | None = None,
        *,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """The map of each stage: what detection builds its pyramid on.

        Name and arguments are timm's.

        Args:
            images: Normalised, ``(batch, 3, height, width)``.
            indices: Stages to give, counted from 0; all of them if none are named.
            output_fmt: Only ``NCHW``.
            intermediates_only: Leave out the last map as a result of its own.

        Returns:
            Maps ``(batch, channels, height / stride, width / stride)``; behind the last one unless
            ``intermediates_only``.

        Raises:
            ValueError: Another format.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt {output_fmt!r}: PebbleNet gives NCHW only")
        maps = self._maps(images)
        wanted = maps if indices is None else [maps[index] for index in indices]
        return wanted if intermediates_only else (maps[-1], wanted)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters count as one layer where learning rates shrink towards the input.

        The name is timm's; layers are in the order in which an image passes them.
        """
        block = "" if coarse else r"\.(\d+)"
        return {
            "stem": "^stem",
            "local": f"^local{block}",
            "merge": "^merge",
            "wide": f"^wide{block}",
            "norm": "^norm",
        }


def pebblenet() -> PebbleNet:
    """The backbone as it is released, untrained: 0.13 million parameters."""
    return PebbleNet()
