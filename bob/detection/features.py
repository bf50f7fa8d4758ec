"""The one adapter under both engines: a backbone → feature maps at strides."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from bob.backbones import Backbone
from bob.detection.windows import WindowedBlock, windowed
from bob.errors import BobError
from bob.protocols.detection import DetectionRecipe


class FeatureMaps(nn.Module):
    """Feature maps of a timm backbone, or of any module with timm's ``forward_intermediates``.

    Of maps that share a stride the last one is taken: the end of each stage of a hierarchical
    backbone, the last block of a plain ViT.

    Args:
        backbone: Its module is used in place; input size and windows are changed.
        image_size: Height and width that every batch has, or none where batches differ.
        window: Side of attention windows of a plain ViT, 0 for global attention.
        global_every: Every so-manieth block of it attends globally.
        tile_positions: Whether its position embeddings are repeated rather than interpolated to
            the larger grid.
        coarsest: Stride of the coarsest map that is wanted of a hierarchical backbone; stages
            behind it do not run.

    Attributes:
        strides: Pixels per map cell, ascending; one entry a map.
        channels: Of each map.
        plain: Whether the backbone has maps of one stride only.
        frozen: Whether the backbone stays in evaluation mode while the rest trains.
        norm_eval: Whether its batch norms do.

    Raises:
        BobError: The module gives no feature maps, or none at this size; ``kind`` is ``backbone``.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: tuple[int, int] | None,
        window: int = 0,
        global_every: int = 3,
        tile_positions: bool = False,
        coarsest: int | None = None,
    ) -> None:
        super().__init__()
        self.key = backbone.key
        self.frozen = self.norm_eval = False
        self.module = backbone.module
        if not callable(getattr(self.module, "forward_intermediates", None)):
            raise BobError(
                f"Backbone {backbone.key!r} gives pooled features but no feature maps: detection "
                "needs timm's forward_intermediates(images, indices=..., output_fmt='NCHW', "
                f"intermediates_only=True), which {type(self.module).__name__} does not have.",
                kind="backbone",
            )
        own = getattr(self.module, "pos_embed", None)
        own = own.detach().clone() if isinstance(own, torch.Tensor) and own.ndim == 3 else None
        try:
            _fit(self.module, image_size)
        except Exception as error:
            raise self._unfit(image_size or (0, 0), error) from error
        if tile_positions and own is not None:
            _tile(self.module, own)
        probe = image_size or (4 * 64, 4 * 64)
        self.chosen: dict[str, Any] = {}
        self.blocks: list[WindowedBlock] = []
        maps = self._probe(probe)
        found: dict[int, int] = {}
        for index, feature_map in enumerate(maps):
            found[round(probe[-1] / feature_map.shape[-1])] = index
        self.plain = len(found) == 1
        finest = min(found)
        limit = max(found) if coarsest is None or self.plain else max(coarsest, finest)
        self.strides = tuple(stride for stride in sorted(found) if stride <= limit)
        indices = [found[stride] for stride in self.strides]
        self.channels = tuple(int(maps[index].shape[1]) for index in indices)
        self.chosen["indices"] = indices
        if len(self.strides) < len(found) and _stops_early(self.module):
            self.chosen["stop_early"] = True
        if self.plain:
            self.blocks = windowed(self.module, window, global_every)

    @classmethod
    def of(cls, backbone: Backbone, recipe: DetectionRecipe) -> FeatureMaps:
        """The maps as a recipe wants them."""
        return cls(
            backbone,
            image_size=(recipe.image_size, recipe.image_size) if recipe.square else None,
            window=recipe.window,
            global_every=recipe.global_every,
            tile_positions=recipe.tile_positions,
            coarsest=None if recipe.neck == "simple" else recipe.strides[-1],
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Normalised images ``(b, 3, h, w)`` to maps ``(b, channels, h/stride, w/stride)``."""
        if self.blocks:
            stride = self.strides[0]
            for block in self.blocks:
                block.grid = (images.shape[-2] // stride, images.shape[-1] // stride)
        module: Any = self.module
        maps: list[torch.Tensor] = module.forward_intermediates(
            images, output_fmt="NCHW", intermediates_only=True, **self.chosen
        )
        return maps

    def train(self, mode: bool = True) -> FeatureMaps:
        """As of every module, but for what ``frozen`` and ``norm_eval`` keep in evaluation mode."""
        super().train(mode)
        if mode and self.frozen:
            self.module.eval()
        elif mode and self.norm_eval:
            for part in self.module.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        return self

    def at(self, maps: list[torch.Tensor], strides: tuple[int, ...]) -> list[torch.Tensor]:
        """The maps of some of ``self.strides``."""
        return [maps[self.strides.index(stride)] for stride in strides]

    def levels(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Which of the wanted strides the backbone has, in one row; the rest is pooled on top.

        Raises:
            BobError: There is none, or one is missing below another.
        """
        have = tuple(stride for stride in wanted if stride in self.strides)
        if not have or have != wanted[: len(have)]:
            raise BobError(
                f"Backbone {self.key!r} has feature maps of stride "
                f"{', '.join(map(str, self.strides))}; the recipe's pyramid starts at "
                f"{wanted[0]} and doubles (strides {', '.join(map(str, wanted))}). Set `strides` "
                "to what it has, or `neck: simple`, in the recipe.",
                kind="backbone",
            )
        return have

    def _probe(self, size: tuple[int, int]) -> list[torch.Tensor]:
        was_training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                device = next(self.module.parameters()).device
                maps: list[torch.Tensor] = self(torch.zeros(1, 3, *size, device=device))
                return maps
        except Exception as error:
            raise self._unfit(size, error) from error
        finally:
            self.module.train(was_training)

    def _unfit(self, size: tuple[int, int], error: Exception) -> BobError:
        return BobError(
            f"Backbone {self.key!r} gives no feature maps of images of {size[0]} x {size[1]} "
            f"pixels: {type(error).__name__}: {error}. Choose another image_size in the recipe.",
            kind="backbone",
        )


def _stops_early(module: Any) -> bool:
    return "stop_early" in inspect.signature(module.forward_intermediates).parameters


def _fit(module: nn.Module, image_size: tuple[int, int] | None) -> None:
    """Let a module of fixed input size take another one; windows keep their size."""
    resize: Any = getattr(module, "set_input_size", None)
    embed: Any = getattr(module, "patch_embed", None)
    if embed is None or not hasattr(embed, "strict_img_size"):
        return
    windows: Any = getattr(module, "_ref_window_sizes", None)
    if callable(resize) and windows is not None:
        # timm would let windows grow with the image; detectors keep those of pretraining.
        resize(image_size, window_size=[tuple(window) for window in windows], always_partition=True)
    elif callable(resize) and image_size is not None:
        resize(img_size=image_size)
    if image_size is None:
        embed.strict_img_size = False
        owner: Any = module
        owner.dynamic_img_size = True
        if windows is None:
            embed.flatten, embed.output_fmt = False, _nhwc()
        for part in module.modules():
            if hasattr(part, "dynamic_mask"):
                block: Any = part
                block.dynamic_mask = True


def _tile(module: nn.Module, own: torch.Tensor) -> None:
    """Repeat the position embeddings ``(1, tokens, channels)`` of pretraining over the new grid.

    Windows of pretraining's size then see what they saw there. Source: D. Bolya et al., Window
    Attention is Bugged, arXiv 2311.05613.
    """
    plain: Any = module
    prefix = 0 if plain.no_embed_class else plain.num_prefix_tokens
    tiled = tiled_positions(own, plain.patch_embed.grid_size, prefix=prefix)
    plain.pos_embed = nn.Parameter(tiled, requires_grad=plain.pos_embed.requires_grad)


def tiled_positions(own: torch.Tensor, grid: tuple[int, int], *, prefix: int) -> torch.Tensor:
    """Position embeddings ``(1, tokens, channels)`` of a square grid, repeated over another.

    Args:
        own: Those of pretraining.
        grid: Rows and columns to cover.
        prefix: Tokens in front that have no place; they stay as they are.
    """
    rows, columns = grid
    side = round((own.shape[1] - prefix) ** 0.5)
    cells = own[:, prefix:].reshape(1, side, side, -1)
    cells = cells.repeat(1, -(-rows // side), -(-columns // side), 1)[:, :rows, :columns]
    return torch.cat([own[:, :prefix], cells.reshape(1, rows * columns, -1)], dim=1)


def _nhwc() -> Any:
    from timm.layers.format import Format

    return Format.NHWC
