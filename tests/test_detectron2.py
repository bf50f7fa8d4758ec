from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from faster_coco_eval.core import mask as coco_mask
from lightning_fabric import Fabric

from bob.backbones import build_backbone
from bob.catalog import Catalog, parse_backbone
from bob.detection.detectron2_engine import (
    INSTALL,
    Detectron2Detector,
    build,
)
from bob.detection.detectron2_model import model_config, timm_backbone
from bob.detection.detectron2_trainer import train
from bob.detection.features import FeatureMaps
from bob.detection.records import Detections, Target
from bob.errors import BobError, TrainingDiverged
from bob.tasks.detection_recipe import DetectionRecipe

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

REQUIRE = """
import json, sys
from bob.detection.detectron2_engine import require_detectron2
from bob.errors import BobError

def said():
    try:
        require_detectron2()
    except BobError as error:
        return [error.kind, str(error)]

found = {}
sys.modules["detectron2"] = None
found["missing"] = said()
for name in ("broken", "hollow"):
    del sys.modules["detectron2"]
    sys.path.insert(0, f"{sys.argv[1]}/{name}")
    found[name] = said()
    sys.path.pop(0)
    sys.modules.setdefault("detectron2", None)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Kind and message of what is raised where detectron2 is missing, broken or half there."""
    folder = tmp_path_factory.mktemp("detectron2")
    for name, text in (
        ("broken", "raise ImportError('libtorch.so: undefined symbol: _ZN3c10')"),
        ("hollow", "import a_package_it_needs"),
    ):
        package = folder / name / "detectron2"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", REQUIRE, str(folder)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_where_detectron2_is_missing_the_message_says_how_to_get_it(
    said: dict[str, list[str]],
) -> None:
    kind, message = said["missing"]
    assert kind == "unavailable"
    assert "detectron2 is not installed" in message
    assert INSTALL in message
    assert "--engine torchvision" in message


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken", "ImportError: libtorch.so: undefined symbol: _ZN3c10"),
        ("hollow", "ModuleNotFoundError: No module named 'a_package_it_needs'"),
    ],
)
def test_where_detectron2_is_broken_the_message_says_why(
    said: dict[str, list[str]], name: str, cause: str
) -> None:
    kind, message = said[name]
    assert kind == "import"
    assert cause in message
    assert INSTALL in message
    assert "--engine torchvision" in message


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
        found: list[Detections] = detector(images, sizes)
    return found


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
    found: Detections, size: tuple[int, int], recipe: DetectionRecipe = SMALL
) -> None:
    height, width = size
    assert len(found) <= recipe.max_detections
    assert found.boxes.shape == (len(found), 4)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert {one.device.type for one in (found.boxes, found.scores, found.labels)} == {"cpu"}
    assert bool(((found.labels >= 0) & (found.labels < CLASSES)).all())
    assert bool((found.scores >= recipe.score_threshold).all())
    assert bool((found.boxes >= 0).all())
    assert bool((found.boxes[:, 2:] <= torch.tensor([width, height])).all())
    assert bool((found.boxes[:, 2:] > found.boxes[:, :2]).all())
    if not recipe.masks:
        assert found.masks is None
        return
    assert found.masks is not None
    assert len(found.masks) == len(found)
    for mask in json.loads(json.dumps(found.masks)):
        assert coco_mask.decode(mask).shape == size


@needs_detectron2
@pytest.mark.parametrize("family", MICRO)
def test_a_few_updates_lower_the_loss_and_detections_are_well_formed(
    catalog: Catalog, family: str
) -> None:
    detector = detector_of(catalog, family)
    update = stepper(detector, torch.optim.AdamW(detector.parameters(), 2e-3))
    batch = scenes((64, 64), (64, 64))
    detector.train()
    history = [sum(map(float, update(batch).values())) for _ in range(40)]
    assert sum(history[-5:]) < 0.8 * sum(history[:5]), history
    sizes = [(64, 64), (96, 128)]
    found = detect(detector, batch[0], sizes)
    assert any(map(len, found))
    for one, size in zip(found, sizes, strict=True):
        assert_well_formed(one, size)


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
        own.set_input_size((64, 64), window_size=[tuple(one) for one in windows])
    with torch.inference_mode():
        expected = own.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
        found = timm_backbone(maps)(images)
    last = {f"s{64 // one.shape[-1]}": one for one in expected}
    assert set(found) == set(last)
    for name, one in found.items():
        torch.testing.assert_close(one, last[name], atol=1e-5, rtol=1e-5)


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
    for one, reduction in zip(expected, own.feature_info.reduction(), strict=True):
        plane = one.permute(0, 3, 1, 2) if name.startswith("swin") else one
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
    assert [one.thresholds[0] for one in tree.roi_heads.proposal_matchers] == [0.5, 0.6, 0.7]
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
@pytest.mark.parametrize("family", MICRO)
def test_images_of_any_size_are_taken_together(catalog: Catalog, family: str) -> None:
    recipe = SMALL.model_copy(update={"augmentation": "multiscale"})
    detector = detector_of(catalog, family, recipe)
    sizes = [(70, 90), (81, 65)]
    images, targets = scenes(*sizes)
    losses = detector.train()(images, targets)
    assert all(torch.isfinite(value) for value in losses.values())
    for one, size in zip(detect(detector, images, sizes), sizes, strict=True):
        assert_well_formed(one, size)


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
    losses = detector.train()(images, [Target(one.boxes, one.labels) for one in targets])
    assert "loss_mask" not in losses
    for one in detect(detector, images, [(64, 64)] * 2):
        assert_well_formed(one, (64, 64), recipe)


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


@pytest.fixture
def learner(catalog: Catalog) -> tuple[Detectron2Detector, torch.optim.AdamW]:
    detector = detector_of(catalog, "resnet")
    return detector, torch.optim.AdamW(detector.parameters(), 1e-3)


@needs_detectron2
@pytest.mark.parametrize("wrapped", [False, True])
def test_training_runs_every_update_and_drives_the_rate(
    learner: tuple[Detectron2Detector, torch.optim.AdamW],
    caplog: pytest.LogCaptureFixture,
    wrapped: bool,
) -> None:
    detector, raw = learner
    optimiser: Any = Fabric(accelerator="cpu").setup_optimizers(raw) if wrapped else raw
    caplog.set_level(logging.DEBUG)
    root = (logging.root.level, list(logging.root.handlers))
    seen: list[tuple[int, float, dict[str, float]]] = []
    train(
        detector.eval(),
        repeat(scenes((64, 64), (64, 64))),
        stepper(detector, raw),
        updates=4,
        lr_lambda=lambda step: 1 / (1 + step),
        optimiser=optimiser,
        after=lambda step, losses: seen.append((step, raw.param_groups[0]["lr"], losses)),
    )
    assert detector.training
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    assert [rate for _, rate, _ in seen] == pytest.approx([1e-3 / (1 + n) for n in (1, 2, 3, 4)])
    assert {"loss_mask", "loss_rpn_cls", "loss_cls_stage2"} <= set(seen[0][2])
    assert all(isinstance(value, float) for value in seen[0][2].values())
    assert "detectron2" not in {record.name.split(".")[0] for record in caplog.records}
    assert root == (logging.root.level, list(logging.root.handlers))


@needs_detectron2
@pytest.mark.parametrize("raises", [False, True])
def test_a_loss_that_is_not_finite_ends_training(
    learner: tuple[Detectron2Detector, torch.optim.AdamW], raises: bool
) -> None:
    detector, optimiser = learner
    done: list[int] = []

    def update(batch: Any) -> dict[str, torch.Tensor]:
        if len(done) < 2:
            optimiser.step()
            return {"loss_mask": torch.tensor(1.0)}
        if raises:  # as detectron2's proposal generator does
            raise FloatingPointError("loss_mask contains Inf/NaN.")
        return {"loss_mask": torch.tensor(float("nan"))}

    with pytest.raises(TrainingDiverged, match=r"Update 3 of 5: .*loss_mask") as caught:
        train(
            detector,
            repeat(None),  # type: ignore[arg-type]
            update,
            updates=5,
            lr_lambda=lambda step: 1.0,
            optimiser=optimiser,
            after=lambda step, losses: done.append(step),
        )
    assert caught.value.kind == "nan-loss"
    assert done == [1, 2]


LIGHT = {"rpn_candidates": (100, 100), "rpn_proposals": (30, 30), "roi_batch": 16}
PLAIN = {
    "augmentation": "lsj", "image_size": 128, "rpn_convs": 2, "head_norm": "LN",
    "box_loss": "smooth_l1", "box_loss_weight": 1.0,
}  # fmt: skip


@needs_detectron2
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("convnext_tiny", {}),
        ("swin_tiny_patch4_window7_224", {}),
        ("vit_base_patch16_224", PLAIN),
    ],
)
def test_full_size_backbones_train_and_detect(
    catalog: Catalog, name: str, changes: dict[str, Any]
) -> None:
    recipe = DetectionRecipe(**{**LIGHT, **changes})
    detector = detector_of(catalog, f"timm:{name},pretrained=false", recipe)
    sizes = [(100, 128), (128, 96)]
    images, targets = scenes(*sizes)
    update = stepper(detector, torch.optim.AdamW(detector.parameters(), 1e-4))
    detector.train()
    losses = update((images, targets))
    assert all(torch.isfinite(value) for value in losses.values())
    for one, size in zip(detect(detector, images, sizes), sizes, strict=True):
        assert_well_formed(one, size, recipe)
