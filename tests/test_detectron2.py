from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from faster_coco_eval.core import mask as coco_mask

from bob.backbones import build_backbone
from bob.case import Case
from bob.catalog import Catalog, parse_backbone
from bob.datasets.instances import Target
from bob.detection.detectron2_model import model_config, region_pooler, timm_backbone
from bob.detection.features import FeatureMaps
from bob.detection.loop import parameter_groups
from bob.errors import BobError
from tests.detection_parts import smoke_recipe
from tests.detectron2_parts import (
    CLASSES,
    MICRO,
    SMALL,
    assert_well_formed,
    detect,
    detector_of,
    needs_detectron2,
    scenes,
    stepper,
)


@needs_detectron2
@pytest.mark.parametrize("family", MICRO)
def test_a_few_updates_lower_the_loss_and_detections_are_well_formed(
    catalog: Catalog, cases: dict[str, Case], family: str
) -> None:
    # at the rates of the smoke recipe: a ViT's own weights do not bear those of the heads
    recipe = smoke_recipe(cases, family)
    detector = detector_of(catalog, family)
    update = stepper(detector, torch.optim.AdamW(parameter_groups(detector, recipe)))
    batch = scenes((64, 64), (64, 64))
    detector.train()
    history = [sum(map(float, update(batch).values())) for _ in range(40)]
    assert sum(history[-5:]) < 0.8 * sum(history[:5]), history
    sizes = [(64, 64), (96, 128)]
    found = detect(detector, batch[0], sizes)
    assert any(map(len, found))
    for detections, size in zip(found, sizes, strict=True):
        assert_well_formed(detections, size)


@needs_detectron2
@pytest.mark.slow
def test_a_detector_learns_where_things_are(catalog: Catalog) -> None:
    detector = detector_of(catalog, "resnet")
    update = stepper(detector, torch.optim.AdamW(detector.parameters(), 2e-3))
    batch = scenes((64, 64), (64, 64))
    detector.train()
    for _ in range(120):
        update(batch)
    (found,) = detect(detector, batch[0][:1], [(64, 128)])
    wanted = batch[1][0].boxes * torch.tensor([2.0, 1.0, 2.0, 1.0])
    assert found.masks is not None
    for label, box in enumerate(wanted):
        best = int(torch.where(found.labels == label, found.scores, 0.0).argmax())
        assert int(found.labels[best]) == label
        assert float((found.boxes[best] - box).abs().max()) < 10
        area = float(coco_mask.decode(found.masks[best]).sum())
        assert area == pytest.approx(float((box[2:] - box[:2]).prod()), rel=0.4)


@needs_detectron2
@pytest.mark.parametrize("family", MICRO)
def test_the_adapter_gives_the_maps_of_timm(catalog: Catalog, family: str) -> None:
    entry = catalog.backbone(f"{family}_micro_glyphs")
    own: Any = build_backbone(entry, image_size=None).module.eval()
    maps = FeatureMaps(build_backbone(entry, image_size=None), image_size=(64, 64)).eval()
    images = torch.randn(2, 3, 64, 64)
    if family == "vit":
        own.set_input_size(img_size=(64, 64))
    elif family == "swin":
        windows = own._ref_window_sizes
        own.set_input_size((64, 64), window_size=[tuple(window) for window in windows])
    with torch.inference_mode():
        expected = own.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
        found = timm_backbone(maps)(images)
    last = {f"s{64 // feature_map.shape[-1]}": feature_map for feature_map in expected}
    assert set(found) == set(last)
    for name, feature_map in found.items():
        torch.testing.assert_close(feature_map, last[name], atol=1e-5, rtol=1e-5)


@needs_detectron2
@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_convnext",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    ],
)
def test_the_adapter_gives_the_maps_of_features_only(catalog: Catalog, name: str) -> None:
    backbone = build_backbone(
        parse_backbone(f"timm:{name},pretrained=false", catalog), image_size=None
    )
    # Detectors shift windows in every stage, timm's classifiers not where one window fills the map.
    extra = {"always_partition": True} if name.startswith("swin") else {}
    own = timm.create_model(name, pretrained=False, features_only=True, **extra).eval()
    weights = backbone.module.state_dict()
    for stage in ("stem", "stages", "layers"):
        weights = {key.replace(f"{stage}.", f"{stage}_", 1): weights[key] for key in weights}
    assert not own.load_state_dict(weights, strict=False).missing_keys
    adapter = timm_backbone(FeatureMaps(backbone, image_size=(224, 224)).eval())
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = own(images)
        found = adapter(images)
    for expected_map, reduction in zip(expected, own.feature_info.reduction(), strict=True):
        plane = expected_map.permute(0, 3, 1, 2) if name.startswith("swin") else expected_map
        torch.testing.assert_close(found[f"s{reduction}"], plane, atol=1e-5, rtol=1e-5)
    shapes = adapter.output_shape()
    assert {key: (value.shape[1], 224 // value.shape[-1]) for key, value in found.items()} == {
        key: (shape.channels, shape.stride) for key, shape in shapes.items()
    }


@needs_detectron2
def test_the_adapter_is_registered_once_and_shares_the_backbone(catalog: Catalog) -> None:
    from detectron2.modeling import BACKBONE_REGISTRY

    first, second = (detector_of(catalog, family) for family in ("vit", "resnet"))
    registered = BACKBONE_REGISTRY.get("TimmBackbone")
    inner: Any = first.model, second.model
    assert type(inner[0].backbone.net) is type(inner[1].backbone.bottom_up) is registered
    assert inner[0].backbone.net.maps is first.maps
    assert inner[1].backbone.bottom_up.maps is second.maps


@needs_detectron2
def test_the_configuration_is_a_tree_of_lazy_calls(catalog: Catalog) -> None:
    backbone = build_backbone(catalog.backbone("resnet_micro_glyphs"), image_size=None)
    recipe = SMALL.model_copy(update={"rpn_convs": 2, "box_loss_weight": 3.0, "head_norm": "LN"})
    tree = model_config(FeatureMaps(backbone, image_size=(64, 64)), backbone, recipe, CLASSES)
    assert tree.proposal_generator.anchor_generator.sizes == [[16], [32], [64], [128]]
    assert tree.proposal_generator.head.conv_dims == [-1, -1]
    assert tree.roi_heads.box_predictors[2].loss_weight == {"loss_box_reg": 3.0}
    assert [matcher.thresholds[0] for matcher in tree.roi_heads.proposal_matchers] == [
        0.5,
        0.6,
        0.7,
    ]
    assert tree.roi_heads.mask_head.conv_norm == "LN"


@needs_detectron2
def test_boxes_are_pooled_as_224_pixels_at_stride_16(catalog: Catalog) -> None:
    from detectron2.modeling.poolers import assign_boxes_to_levels
    from detectron2.structures import Boxes

    model: Any = detector_of(catalog, "resnet").model
    for pooler in (model.roi_heads.box_pooler, model.roi_heads.mask_pooler):
        # 224 pixels are 28 times the usual anchor scale of 8
        sides = torch.tensor([SMALL.anchor_scale * times for times in (4, 13, 15, 27, 29, 99)])
        boxes = Boxes(torch.stack([sides * 0, sides * 0, sides, sides], dim=1))
        levels = assign_boxes_to_levels(
            [boxes],
            pooler.min_level,
            pooler.max_level,
            pooler.canonical_box_size,
            pooler.canonical_level,
        )
        assert levels.tolist() == [0, 0, 1, 1, 2, 2]


@needs_detectron2
@pytest.mark.parametrize("samples", [0, 1])
def test_regions_are_pooled_as_by_its_own_pooler(samples: int) -> None:
    from detectron2.modeling.poolers import ROIPooler
    from detectron2.structures import Boxes

    arguments: dict[str, Any] = {
        "output_size": 7, "scales": [1 / 4, 1 / 8], "sampling_ratio": samples,
        "pooler_type": "ROIAlignV2", "canonical_box_size": 32, "canonical_level": 3,
    }  # fmt: skip
    maps = [torch.randn(2, 5, side, side) for side in (16, 8)]
    sides = torch.tensor([6.0, 20.0, 30.0, 50.0])
    boxes = [Boxes(torch.stack([sides / 8, sides / 5, sides, sides * 1.2], dim=1))] * 2
    expected = ROIPooler(**arguments)(maps, boxes)
    found = region_pooler(**arguments)(maps, boxes)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@needs_detectron2
@pytest.mark.parametrize("family", MICRO)
def test_images_of_any_size_are_taken_together(catalog: Catalog, family: str) -> None:
    recipe = SMALL.model_copy(update={"augmentation": "multiscale"})
    detector = detector_of(catalog, family, recipe)
    sizes = [(70, 90), (81, 65)]
    images, targets = scenes(*sizes)
    losses = detector.train()(images, targets)
    assert all(torch.isfinite(value) for value in losses.values())
    for detections, size in zip(detect(detector, images, sizes), sizes, strict=True):
        assert_well_formed(detections, size)


@needs_detectron2
def test_boxes_come_in_pixels_of_the_original(catalog: Catalog) -> None:
    detector = detector_of(catalog, "swin")
    images, _ = scenes((64, 64))
    (same,) = detect(detector, images, [(64, 64)])
    (larger,) = detect(detector, images, [(192, 128)])
    torch.testing.assert_close(larger.boxes, same.boxes * torch.tensor([2.0, 3.0, 2.0, 3.0]))
    torch.testing.assert_close(larger.scores, same.scores)


@needs_detectron2
def test_nothing_found_is_well_formed(catalog: Catalog) -> None:
    recipe = SMALL.model_copy(update={"score_threshold": 0.999})
    images, _ = scenes((64, 64))
    (found,) = detect(detector_of(catalog, "resnet", recipe), images, [(64, 64)])
    assert len(found) == 0
    assert found.masks == ()
    assert found.boxes.shape == (0, 4)


@needs_detectron2
def test_the_number_of_detections_is_bounded(catalog: Catalog) -> None:
    recipe = SMALL.model_copy(update={"max_detections": 3, "score_threshold": 0.0})
    images, _ = scenes((64, 64))
    (found,) = detect(detector_of(catalog, "resnet", recipe), images, [(64, 64)])
    assert len(found) == 3


@needs_detectron2
def test_boxes_alone_need_no_masks(catalog: Catalog) -> None:
    recipe = SMALL.model_copy(update={"masks": False})
    detector = detector_of(catalog, "convnext", recipe)
    images, targets = scenes((64, 64), (64, 64))
    losses = detector.train()(images, [Target(target.boxes, target.labels) for target in targets])
    assert "loss_mask" not in losses
    for detections in detect(detector, images, [(64, 64)] * 2):
        assert_well_formed(detections, (64, 64), recipe)


@needs_detectron2
def test_images_without_objects_leave_losses_and_norms_finite(catalog: Catalog) -> None:
    detector = detector_of(catalog, "resnet").train()
    losses = detector(*scenes((64, 64), objects=0))
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(value).all() for value in detector.state_dict().values())


@needs_detectron2
@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("resnet", {"strides": (6, 12)}, "powers of two"),
        ("swin", {"strides": (2, 4, 8)}, "starts at 2"),
        ("resnet", {"neck": "simple"}, "levels of stride 8 to"),
        ("vit", {"strides": (16,)}, "Set `strides`"),
        ("swin", {"image_size": 100}, "a multiple of 8"),
    ],
)
def test_impossible_pyramids_are_refused(
    catalog: Catalog, family: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BobError, match=message) as caught:
        detector_of(catalog, family, SMALL.model_copy(update=changes))
    assert caught.value.kind == "backbone"
