"""Small detectors and scenes for the tests of detectron2."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from faster_coco_eval.core import mask as coco_mask

from bob.backbones import build_backbone
from bob.catalog import Catalog, parse_backbone
from bob.datasets.instances import Target
from bob.detection.detectron2_engine import (
    INSTALL,
    Detectron2Detector,
    build,
)
from bob.detection.records import Detections
from bob.protocols.detection import DetectionRecipe

MICRO = ("swin", "vit", "convnext", "resnet")


CLASSES = 3


SMALL = DetectionRecipe(
    engine="detectron2", augmentation="none", image_size=64, strides=(4, 8, 16), channels=32,
    head_convs=1, head_fcs=(64,), mask_convs=1, rpn_candidates=(200, 100), rpn_proposals=(50, 50),
    roi_batch=32, rpn_batch=32, anchor_scale=4, window=8,
)  # fmt: skip


needs_detectron2 = pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None,
    reason=f"detectron2 is not installed; {INSTALL}",
)


def detector_of(catalog: Catalog, spec: str, recipe: DetectionRecipe = SMALL) -> Detectron2Detector:
    torch.manual_seed(0)
    spec = f"{spec}_micro_glyphs" if spec in MICRO else spec
    backbone = build_backbone(parse_backbone(spec, catalog), image_size=None)
    return build(backbone, recipe, CLASSES)


def scene(height: int = 64, width: int = 64, *, objects: int = 2) -> tuple[torch.Tensor, Target]:
    """Dark noise with one bright rectangle a class."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height)) * 0.2
    masks = torch.zeros(objects, height, width, dtype=torch.bool)
    boxes = torch.zeros(objects, 4)
    for index in range(objects):
        top, left = 6 + 26 * index, 4 + 28 * index
        masks[index, top : top + 20, left : left + 24] = True
        boxes[index] = torch.tensor([left, top, left + 24, top + 20])
        image[index, top : top + 20, left : left + 24] = 1.0
    return image, Target(boxes, torch.arange(objects), masks)


def scenes(*sizes: tuple[int, int], objects: int = 2) -> tuple[list[torch.Tensor], list[Target]]:
    images, targets = zip(*(scene(*size, objects=objects) for size in sizes), strict=True)
    return list(images), list(targets)


def detect(
    detector: Detectron2Detector, images: list[torch.Tensor], sizes: list[tuple[int, int]]
) -> list[Detections]:
    detector.eval()
    with torch.inference_mode():
        detections: list[Detections] = detector(images, sizes)
    return detections


def stepper(
    detector: Detectron2Detector, optimiser: torch.optim.Optimizer
) -> Callable[[Any], dict[str, torch.Tensor]]:
    def update(batch: Any) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = detector(*batch)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        return {name: value.detach() for name, value in losses.items()}

    return update


def assert_well_formed(
    detections: Detections, size: tuple[int, int], recipe: DetectionRecipe = SMALL
) -> None:
    height, width = size
    assert len(detections) <= recipe.max_detections
    assert detections.boxes.shape == (len(detections), 4)
    assert detections.boxes.dtype == detections.scores.dtype == torch.float32
    assert detections.labels.dtype == torch.int64
    assert {
        tensor.device.type for tensor in (detections.boxes, detections.scores, detections.labels)
    } == {"cpu"}
    assert bool(((detections.labels >= 0) & (detections.labels < CLASSES)).all())
    assert bool((detections.scores >= recipe.score_threshold).all())
    assert bool((detections.boxes >= 0).all())
    assert bool((detections.boxes[:, 2:] <= torch.tensor([width, height])).all())
    assert bool((detections.boxes[:, 2:] > detections.boxes[:, :2]).all())
    if not recipe.masks:
        assert detections.masks is None
        return
    assert detections.masks is not None
    assert len(detections.masks) == len(detections)
    for mask in json.loads(json.dumps(detections.masks)):
        assert coco_mask.decode(mask).shape == size
