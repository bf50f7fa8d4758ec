"""Cascade (Mask) R-CNN as a tree of detectron2's lazy calls over the suite's feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bob.backbones import Backbone
from bob.detection.features import FeatureMaps
from bob.detection.pyramid import simple_scales, uses_simple_neck
from bob.detection.regions import RegionPool
from bob.errors import BobError
from bob.protocols.detection import DetectionRecipe

_STAGES = ((0.5, 10.0, 5.0), (0.6, 20.0, 10.0), (0.7, 30.0, 15.0))
"""IoU that makes a proposal positive, and weights of centre and size, of the three stages."""


def timm_backbone(maps: FeatureMaps) -> Any:
    """The maps as detectron2's ``Backbone``, registered there as ``TimmBackbone``."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY
    from detectron2.modeling import Backbone as Detectron2Backbone

    if "TimmBackbone" not in BACKBONE_REGISTRY:

        class TimmBackbone(Detectron2Backbone):  # type: ignore[misc, unused-ignore]
            """Feature maps named by stride: ``s4``, ``s8``, ..."""

            def __init__(self, maps: FeatureMaps) -> None:
                super().__init__()
                self.maps = maps

            def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
                names = [f"s{stride}" for stride in self.maps.strides]
                return dict(zip(names, self.maps(images), strict=True))

            def output_shape(self) -> dict[str, Any]:
                rows = zip(self.maps.strides, self.maps.channels, strict=True)
                return {f"s{s}": ShapeSpec(channels=c, stride=s) for s, c in rows}

            @property
            def size_divisibility(self) -> int:
                return self.maps.strides[-1]

        BACKBONE_REGISTRY.register(TimmBackbone)
    return BACKBONE_REGISTRY.get("TimmBackbone")(maps)


def simple_pyramid(**arguments: Any) -> Any:
    """detectron2's ``SimpleFeaturePyramid`` that also takes images of any size.

    Its own padding constraint bears a misspelt name, so without a square it pads nothing.
    """
    from detectron2.modeling.backbone import SimpleFeaturePyramid

    class Padded(SimpleFeaturePyramid):  # type: ignore[misc, unused-ignore]
        @property
        def size_divisibility(self) -> int:
            return max(int(self._size_divisibility), int(self.net.size_divisibility))

    return Padded(**arguments)


def precise_mask_head(**arguments: Any) -> Any:
    """detectron2's mask head with logits in float32, in whose type masks are pasted."""
    from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead

    class Precise(MaskRCNNConvUpsampleHead):  # type: ignore[misc, unused-ignore]
        def layers(self, x: torch.Tensor) -> Any:
            return super().layers(x).float()

    return Precise(**arguments)


class PooledLevels(nn.Module):
    """Levels pooled from the last one: those a backbone lacks, and the extra one."""

    def __init__(self, in_feature: str, levels: int) -> None:
        super().__init__()
        self.in_feature, self.num_levels = in_feature, levels

    def forward(self, last: torch.Tensor) -> list[torch.Tensor]:
        """The last level ``(b, c, h, w)`` to coarser and coarser ones."""
        levels = [last]
        for _ in range(self.num_levels):
            levels.append(nn.functional.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels[1:]


def model_config(
    maps: FeatureMaps, backbone: Backbone, recipe: DetectionRecipe, classes: int
) -> Any:
    """The detector as a tree of lazy calls, ready for ``detectron2.config.instantiate``.

    Raises:
        BobError: detectron2's pyramids cannot have the recipe's strides on these maps.
    """
    from detectron2.config import LazyCall
    from detectron2.modeling.meta_arch import GeneralizedRCNN

    names = tuple(f"p{stride.bit_length() - 1}" for stride in recipe.strides)
    extra = f"p{recipe.strides[-1].bit_length()}"
    return LazyCall(GeneralizedRCNN)(
        backbone=_neck(maps, recipe),
        proposal_generator=_proposals(recipe, (*names, extra)),
        roi_heads=_roi_heads(recipe, names, classes),
        pixel_mean=list(backbone.mean),
        pixel_std=list(backbone.std),
        input_format="RGB",
    )


def _neck(maps: FeatureMaps, recipe: DetectionRecipe) -> Any:
    from detectron2.config import LazyCall
    from detectron2.modeling.backbone import FPN

    odd = [stride for stride in recipe.strides if stride.bit_count() != 1]
    if odd:
        raise BobError(
            f"Backbone {maps.key!r}: detectron2 pools regions from strides that are powers of two; "
            f"the recipe has {', '.join(map(str, recipe.strides))}. Run with --engine torchvision.",
            kind="backbone",
        )
    simple = uses_simple_neck(maps, recipe)
    own = recipe.strides if simple else maps.levels(recipe.strides)
    if simple:
        own = tuple(
            stride
            for stride, scale in zip(own, simple_scales(maps, own), strict=True)
            if scale >= 0.5  # detectron2 has none coarser; what lacks is pooled
        )
        if not own:
            raise BobError(
                f"Backbone {maps.key!r}: detectron2's simple feature pyramid on maps of stride "
                f"{maps.strides[-1]} starts at stride {maps.strides[-1] * 2} or finer; the "
                f"recipe's at {recipe.strides[0]}. Set `strides` in the recipe.",
                kind="backbone",
            )
    top = LazyCall(PooledLevels)(
        in_feature=f"p{own[-1].bit_length() - 1}", levels=len(recipe.strides) - len(own) + 1
    )
    shared = {
        "out_channels": recipe.channels,
        "top_block": top,
        "square_pad": recipe.image_size if recipe.square else 0,
    }
    bottom = LazyCall(timm_backbone)(maps=maps)
    if simple:
        return LazyCall(simple_pyramid)(
            net=bottom,
            in_feature=f"s{maps.strides[-1]}",
            scale_factors=[maps.strides[-1] / stride for stride in own],
            norm="LN",
            **shared,
        )
    return LazyCall(FPN)(bottom_up=bottom, in_features=[f"s{stride}" for stride in own], **shared)


def _proposals(recipe: DetectionRecipe, names: Sequence[str]) -> Any:
    from detectron2.config import LazyCall
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.matcher import Matcher
    from detectron2.modeling.proposal_generator import RPN, StandardRPNHead

    strides = [*recipe.strides, recipe.strides[-1] * 2]
    return LazyCall(RPN)(
        in_features=list(names),
        head=LazyCall(StandardRPNHead)(
            in_channels=recipe.channels,
            num_anchors=len(recipe.anchor_ratios),
            conv_dims=[-1] * recipe.rpn_convs,
        ),
        anchor_generator=LazyCall(DefaultAnchorGenerator)(
            sizes=[[recipe.anchor_scale * stride] for stride in strides],
            aspect_ratios=list(recipe.anchor_ratios),
            strides=strides,
            offset=0.0,
        ),
        anchor_matcher=LazyCall(Matcher)(
            thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=LazyCall(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=recipe.rpn_batch,
        positive_fraction=0.5,
        pre_nms_topk=recipe.rpn_candidates,
        post_nms_topk=recipe.rpn_proposals,
        nms_thresh=0.7,
    )


def _roi_heads(recipe: DetectionRecipe, names: Sequence[str], classes: int) -> Any:
    from detectron2.config import LazyCall
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.matcher import Matcher
    from detectron2.modeling.roi_heads import (
        CascadeROIHeads,
        FastRCNNConvFCHead,
        FastRCNNOutputLayers,
    )

    channels = recipe.channels
    masks: dict[str, Any] = {}
    if recipe.masks:
        masks = {
            "mask_in_features": list(names),
            "mask_pooler": _pooler(recipe, recipe.mask_pool),
            "mask_head": LazyCall(precise_mask_head)(
                input_shape=ShapeSpec(
                    channels=channels, width=recipe.mask_pool, height=recipe.mask_pool
                ),
                num_classes=classes,
                conv_dims=[channels] * (recipe.mask_convs + 1),
                conv_norm=recipe.head_norm,
            ),
        }
    return LazyCall(CascadeROIHeads)(
        num_classes=classes,
        batch_size_per_image=recipe.roi_batch,
        positive_fraction=recipe.roi_positives,
        box_in_features=list(names),
        box_pooler=_pooler(recipe, recipe.box_pool),
        box_heads=[
            LazyCall(FastRCNNConvFCHead)(
                input_shape=ShapeSpec(
                    channels=channels, height=recipe.box_pool, width=recipe.box_pool
                ),
                conv_dims=[channels] * recipe.head_convs,
                fc_dims=list(recipe.head_fcs),
                conv_norm=recipe.head_norm,
            )
            for _ in _STAGES
        ],
        box_predictors=[
            LazyCall(FastRCNNOutputLayers)(
                input_shape=ShapeSpec(channels=recipe.head_fcs[-1]),
                box2box_transform=LazyCall(Box2BoxTransform)(weights=(centre, centre, side, side)),
                num_classes=classes,
                test_score_thresh=recipe.score_threshold,
                test_nms_thresh=recipe.nms,
                test_topk_per_image=recipe.max_detections,
                cls_agnostic_bbox_reg=True,
                box_reg_loss_type=recipe.box_loss,
                loss_weight={"loss_box_reg": recipe.box_loss_weight},
            )
            for _, centre, side in _STAGES
        ],
        proposal_matchers=[
            LazyCall(Matcher)(thresholds=[iou], labels=[0, 1], allow_low_quality_matches=False)
            for iou, _, _ in _STAGES
        ],
        **masks,
    )


def _pooler(recipe: DetectionRecipe, size: int) -> Any:
    from detectron2.config import LazyCall

    finest = recipe.strides[0]
    return LazyCall(region_pooler)(
        output_size=size,
        scales=[1.0 / stride for stride in recipe.strides],
        sampling_ratio=recipe.pool_samples,
        pooler_type="ROIAlignV2",
        # 224 pixels at stride 16 under the usual anchors of eight strides
        canonical_box_size=round(recipe.anchor_scale * 7 * finest),
        canonical_level=finest.bit_length() + 1,
    )


def region_pooler(**arguments: Any) -> Any:
    """detectron2's ``ROIPooler`` on maps in float32, pooled as under the other engine.

    detectron2 brings boxes to the type of the maps, and bfloat16 knows a coordinate above 1024 to 8
    pixels only.
    """
    from detectron2.modeling.poolers import ROIPooler

    class Precise(ROIPooler):  # type: ignore[misc, unused-ignore]
        def forward(self, x: list[torch.Tensor], box_lists: list[Any]) -> Any:
            return super().forward([level.float() for level in x], box_lists)

    pooler = Precise(**arguments)
    pooler.level_poolers = nn.ModuleList(
        RegionPool(arguments["output_size"], round(1 / scale), arguments["sampling_ratio"])
        for scale in arguments["scales"]
    )
    return pooler
