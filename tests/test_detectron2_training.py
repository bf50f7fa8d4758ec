"""detectron2's trainer on the suite's update, and full-size detectors."""

from __future__ import annotations

import logging
from itertools import repeat
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from bob.catalog import Catalog
from bob.detection.detectron2_engine import (
    Detectron2Detector,
)
from bob.detection.detectron2_trainer import train
from bob.errors import TrainingDiverged
from bob.protocols.detection import DetectionRecipe
from tests.detectron2_parts import (
    assert_well_formed,
    detect,
    detector_of,
    needs_detectron2,
    scenes,
    stepper,
)


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
    for detections, size in zip(detect(detector, images, sizes), sizes, strict=True):
        assert_well_formed(detections, size, recipe)
