"""Faster and Mask R-CNN from torchvision's parts: the engine that works everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RPNHead

from bob.backbones import Backbone
from bob.datasets.instances import Target
from bob.detection.features import FeatureMaps
from bob.detection.masks import encode
from bob.detection.pyramid import Pyramid
from bob.detection.records import Detections
from bob.detection.regions import PyramidPool
from bob.protocols.detection import DetectionRecipe

_Norm = Callable[..., nn.Module] | None
_NORMS: dict[str, _Norm] = {"": None, "BN": nn.BatchNorm2d, "LN": LayerNorm2d}


class TorchvisionDetector(nn.Module):
    """Faster R-CNN, with a mask head where the recipe has masks.

    Attributes:
        maps: The backbone's feature maps.
    """

    def __init__(self, backbone: Backbone, recipe: DetectionRecipe, classes: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.maps = FeatureMaps.of(backbone, recipe)
        self.square = (recipe.image_size, recipe.image_size) if recipe.square else None
        self.model = _assemble(Pyramid(self.maps, recipe), recipe, classes)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1), persistent=False)
        self.divisor = max(recipe.strides) * 2

    def forward(self, images: Sequence[torch.Tensor], about: Sequence[Any]) -> Any:
        """Losses of a training batch, or detections.

        Args:
            images: RGB in 0..1, ``(3, h, w)`` each, resized as the recipe says.
            about: In training one ``Target`` an image, in the image's pixels; otherwise the
                ``(height, width)`` that its detections are given in.

        Returns:
            In training the losses by name, otherwise one ``Detections`` an image.
        """
        batch = self._batch(images)
        levels = self.model.backbone(batch.tensors)
        targets = [_target_dict(target) for target in about] if self.training else None
        proposals, rpn_losses = self.model.rpn(batch, levels, targets)
        found, losses = self.model.roi_heads(levels, proposals, batch.image_sizes, targets)
        if self.training:
            return {**rpn_losses, **losses}
        return [
            _detections(output, size, whole)
            for output, size, whole in zip(found, batch.image_sizes, about, strict=True)
        ]

    def _batch(self, images: Sequence[torch.Tensor]) -> ImageList:
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height, width = self.square or (
            -(-max(size[axis] for size in sizes) // self.divisor) * self.divisor for axis in (0, 1)
        )
        padded = [
            functional.pad(
                (image - self.mean) / self.std,
                (0, width - image.shape[-1], 0, height - image.shape[-2]),
            )
            for image in images
        ]
        return ImageList(torch.stack(padded), sizes)


# torchvision computes boxes in the type of the maps and heads they come from. Under bfloat16 that
# knows a coordinate above 1024 to 8 pixels only, so that all boxes are kept in float32.


class _Anchors(AnchorGenerator):
    """Anchors in float32 whatever the maps' type."""

    def forward(
        self, image_list: ImageList, feature_maps: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Anchors ``(n, 4)`` of each image; of the maps only the shapes matter."""
        shapes = [
            feature_map.new_empty((), dtype=torch.float32).expand(feature_map.shape)
            for feature_map in feature_maps
        ]
        anchors: list[torch.Tensor] = super().forward(image_list, shapes)
        return anchors


class _ProposalHead(RPNHead):
    """Scores and offsets of anchors in float32."""

    def forward(self, x: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Maps to scores and offsets, one tensor a level."""
        scores, offsets = super().forward(x)
        return [level.float() for level in scores], [level.float() for level in offsets]


def build(backbone: Backbone, recipe: DetectionRecipe, classes: int) -> TorchvisionDetector:
    """The detector of a recipe.

    Args:
        backbone: Used in place.
        recipe: Its settings.
        classes: Classes, the background not counted.
    """
    return TorchvisionDetector(backbone, recipe, classes)


def _assemble(pyramid: Pyramid, recipe: DetectionRecipe, classes: int) -> Any:
    channels, strides = recipe.channels, recipe.strides
    sides = tuple((recipe.anchor_scale * stride,) for stride in (*strides, strides[-1] * 2))
    norm = _NORMS[recipe.head_norm]

    def pool(size: int) -> PyramidPool:
        return PyramidPool(
            pyramid.names,
            strides,
            size=size,
            samples=recipe.pool_samples,
            side=recipe.anchor_scale * strides[0],
        )

    parts: dict[str, Any] = {
        "backbone": pyramid,
        "rpn_anchor_generator": _Anchors(sides, (recipe.anchor_ratios,) * len(sides)),
        "rpn_head": _ProposalHead(channels, len(recipe.anchor_ratios), conv_depth=recipe.rpn_convs),
        "rpn_pre_nms_top_n_train": recipe.rpn_candidates[0],
        "rpn_pre_nms_top_n_test": recipe.rpn_candidates[1],
        "rpn_post_nms_top_n_train": recipe.rpn_proposals[0],
        "rpn_post_nms_top_n_test": recipe.rpn_proposals[1],
        "rpn_batch_size_per_image": recipe.rpn_batch,
        "box_roi_pool": pool(recipe.box_pool),
        "box_head": FastRCNNConvFCHead(
            (channels, recipe.box_pool, recipe.box_pool),
            [channels] * recipe.head_convs,
            list(recipe.head_fcs),
            norm,
        ),
        "box_predictor": BoxPredictor(recipe.head_fcs[-1], classes + 1),
        "box_score_thresh": recipe.score_threshold,
        "box_nms_thresh": recipe.nms,
        "box_detections_per_img": recipe.max_detections,
        "box_batch_size_per_image": recipe.roi_batch,
        "box_positive_fraction": recipe.roi_positives,
    }
    if not recipe.masks:
        return FasterRCNN(**parts)
    return MaskRCNN(
        **parts,
        mask_roi_pool=pool(recipe.mask_pool),
        mask_head=MaskRCNNHeads(channels, [channels] * recipe.mask_convs, 1, norm),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes + 1),
    )


class BoxPredictor(nn.Module):
    """Scores of every class and one box for all of them, as under detectron2.

    torchvision's own has a box a class, each learnt from that class's objects alone.

    Args:
        width: Channels of the box head.
        classes: Classes, the background counted.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.scores, self.deltas = nn.Linear(width, classes), nn.Linear(width, 4)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(n, width)`` to scores ``(n, classes)`` and boxes ``(n, 4 * classes)``, in float32."""
        return self.scores(features).float(), self.deltas(features).float().repeat(1, self.classes)


def _target_dict(target: Target) -> dict[str, torch.Tensor]:
    # torchvision's class 0 is the background
    found = {"boxes": target.boxes, "labels": target.labels + 1}
    return found if target.masks is None else {**found, "masks": target.masks.to(torch.uint8)}


def _detections(
    found: dict[str, torch.Tensor], size: tuple[int, int], whole: tuple[int, int]
) -> Detections:
    """Bring boxes and masks from the resized image to the whole one."""
    boxes = found["boxes"].float()
    scale = boxes.new_tensor([whole[1] / size[1], whole[0] / size[0]]).repeat(2)
    boxes = boxes * scale
    masks = None
    if "masks" in found:
        pasted = paste_masks_in_image(found["masks"].float(), boxes, whole)[:, 0] >= 0.5
        masks = encode(pasted.cpu())
    return Detections(
        boxes=boxes.cpu(),
        scores=found["scores"].float().cpu(),
        labels=found["labels"].cpu() - 1,
        masks=masks,
    )
