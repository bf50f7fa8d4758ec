"""Boxes keep their digits when maps and heads are computed in bfloat16."""

from __future__ import annotations

from typing import Any

import torch

from bob.case import Case
from bob.catalog import Catalog
from bob.detection.torchvision_engine import build
from tests.detection_parts import micro, smoke_recipe
from tests.detectron2_parts import detector_of, needs_detectron2

WIDTH = 1216


def proposals(detector: Any, image: torch.Tensor, *, half: bool) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        batch = detector._batch([image])
        found: torch.Tensor = detector.model.rpn(batch, detector.model.backbone(batch.tensors))[0]
        return found[0]


def test_proposals_of_a_wide_image_lie_where_they_do_in_float32(
    catalog: Catalog, cases: dict[str, Case]
) -> None:
    torch.manual_seed(0)
    recipe = smoke_recipe(
        cases, "resnet", augmentation="multiscale", rpn_candidates=(20000, 20000),
        rpn_proposals=(20000, 20000),
    )  # fmt: skip
    detector: Any = build(micro(catalog, "resnet"), recipe, 10).eval()
    # a head that moves nothing proposes the anchors themselves
    torch.nn.init.zeros_(detector.model.rpn.head.bbox_pred.weight)
    detector.model.rpn.nms_thresh = 1.0
    image = torch.rand(3, 64, WIDTH, generator=torch.Generator().manual_seed(0))
    expected = proposals(detector, image, half=False)
    found = proposals(detector, image, half=True)
    far = found[found[:, 0] > WIDTH * 0.9]
    assert found.dtype == torch.float32
    assert len(far) > 10
    assert torch.cdist(far, expected).min(dim=1).values.max() < 0.01


def test_scores_and_offsets_of_regions_are_float32(
    catalog: Catalog, cases: dict[str, Case]
) -> None:
    recipe = smoke_recipe(cases, "resnet")
    detector: Any = build(micro(catalog, "resnet"), recipe, 10)
    with torch.autocast("cpu", torch.bfloat16):
        scores, offsets = detector.model.roi_heads.box_predictor(torch.rand(2, recipe.head_fcs[-1]))
    assert scores.dtype == offsets.dtype == torch.float32


@needs_detectron2
def test_detectron2_pools_from_where_the_boxes_are(catalog: Catalog) -> None:
    from detectron2.structures import Boxes

    detector: Any = detector_of(catalog, "resnet")
    heads = detector.model.roi_heads
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.rand(1, 32, 64 // stride, WIDTH // stride, generator=generator).bfloat16()
        for stride in (4, 8, 16)
    ]
    boxes = [Boxes(torch.tensor([[1101.3, 3.2, 1157.9, 40.7], [901.6, 8.1, 1003.3, 60.2]]))]
    for pooler in (heads.box_pooler, heads.mask_pooler):
        assert torch.equal(
            pooler(maps, boxes), pooler([feature_map.float() for feature_map in maps], boxes)
        )


@needs_detectron2
def test_detectron2_pastes_masks_in_float32(catalog: Catalog) -> None:
    detector: Any = detector_of(catalog, "resnet")
    with torch.autocast("cpu", torch.bfloat16):
        logits = detector.model.roi_heads.mask_head.layers(torch.rand(2, 32, 14, 14))
    assert logits.dtype == torch.float32
