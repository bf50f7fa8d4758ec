"""Micro backbones that read single letters of 32 pixels and scenes of 64 in one pretraining."""

from __future__ import annotations

from typing import Any

import torch
from letter_scenes import CANVAS
from timm.models.swin_transformer import SwinTransformer

from bob.backbones import Backbone, micro
from bob.detection.features import FeatureMaps, tiled_positions

STRIDES = (4, 8, 16)
WINDOW = 8


class Trunk:
    """A micro backbone.

    Args:
        name: Of a factory of ``bob.backbones.micro``.

    Attributes:
        net: The module, without a head.
        strides: Of the maps it gives of scenes.
        channels: Of each map.
    """

    def __init__(self, name: str) -> None:
        self.net: Any = getattr(micro, name)()
        self.positions = getattr(self.net, "pos_embed", None)
        self._maps = FeatureMaps(
            Backbone(
                key=name,
                module=self.net,
                num_features=self.net.num_features,
                image_size=micro.IMAGE_SIZE,
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
                weights_digest="",
                fingerprint=(),
            ),
            image_size=(CANVAS, CANVAS),
            window=WINDOW,
        )
        self._levels = [i for i, stride in enumerate(self._maps.strides) if stride in STRIDES]
        self.strides = tuple(self._maps.strides[i] for i in self._levels)
        self.channels = tuple(self._maps.channels[i] for i in self._levels)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Letters ``(b, 3, 32, 32)`` to features ``(b, channels)``."""
        self._fit(micro.IMAGE_SIZE)
        features: torch.Tensor = self.net(images)
        return features

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Scenes ``(b, 3, 64, 64)`` to one map ``(b, channels, 64 / stride, 64 / stride)`` each."""
        self._fit(CANVAS)
        pyramid = self._maps(images)
        return [pyramid[index] for index in self._levels]

    def settle(self) -> None:
        """Fix the statistics of batch norms: letters and scenes differ in them, and share these."""
        self._maps.norm_eval = True
        self._maps.train()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Its weights, named as in the factory's module."""
        state: dict[str, torch.Tensor] = self.net.state_dict()
        return {key.replace(".block.", "."): value for key, value in state.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take the weights of the factory's module."""
        own: dict[str, torch.Tensor] = self.net.state_dict()
        self.net.load_state_dict({key: state[key.replace(".block.", ".")] for key in own})

    def _fit(self, side: int) -> None:
        if isinstance(self.net, SwinTransformer):
            # At 32 pixels the last stage keeps its shifted windows, where timm's own would not
            # shift a window that covers the whole map.
            windows = [(4, 4), (4, 4)]
            self.net.set_input_size((side, side), window_size=windows, always_partition=True)


class PlainTrunk(Trunk):
    """A plain ViT: windows of pretraining's size over scenes, whose positions are repeated.

    That is how the smoke recipes of detection use it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.net.pos_embed = self.positions
        self.net.patch_embed.strict_img_size = False

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Letters ``(b, 3, 32, 32)`` to features ``(b, channels)``."""
        features: torch.Tensor = self.net.forward_head(self.net.norm(self._tokens(images)))
        return features

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Scenes ``(b, 3, 64, 64)`` to the last block's map ``(b, channels, 16, 16)``."""
        side = images.shape[-1] // self.strides[0]
        patches = self._tokens(images)[:, 1:]
        return [patches.transpose(1, 2).reshape(len(images), -1, side, side)]

    def _tokens(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // self.strides[0]
        for block in self._maps.blocks:
            block.grid = (side, side)
        own = self.positions
        assert isinstance(own, torch.Tensor)
        tokens = self.net.patch_embed(images)
        tokens = torch.cat([self.net.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + tiled_positions(own, (side, side), prefix=1)
        for block in self.net.blocks:
            tokens = block(tokens)
        return tokens


def trunk(name: str) -> Trunk:
    """The trunk of a micro backbone."""
    return PlainTrunk(name) if name.startswith("vit") else Trunk(name)
