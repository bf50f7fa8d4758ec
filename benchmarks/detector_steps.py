"""Training steps of full-size detectors on random images, and how they are timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric

from bob.backbones import build_backbone
from bob.catalog import load_catalog, parse_backbone
from bob.datasets.instances import Target
from bob.detection.engine import build_detector
from bob.detection.loop import DetectionLoop
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.training.environment import peak_memory_mb, reset_peak

USUAL_SIZE = (800, 1216)
CLASSES = 80
_WARM = 2


@dataclass(frozen=True)
class Step:
    """An update of a detector.

    Attributes:
        run: Takes one; gives the sum of the losses.
        size: Height and width of the images.
        parts: Says into how many parts the batch had to be split so far.
    """

    run: Callable[[], torch.Tensor]
    size: tuple[int, int]
    parts: Callable[[], int] = lambda: 1


def samples(batch: int, size: tuple[int, int], device: torch.device) -> Any:
    """Random images with five objects each."""
    height, width = size
    mask = torch.zeros(5, height, width, dtype=torch.bool, device=device)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = True
    box = [width // 4, height // 4, width // 2, height // 2]
    boxes = torch.tensor([box] * 5, dtype=torch.float32, device=device)
    labels = torch.arange(5, device=device)
    images = [torch.rand(3, height, width, device=device) for _ in range(batch)]
    return images, [Target(boxes, labels, mask)] * batch


def suite_step(
    name: str,
    fabric: Fabric,
    *,
    batch: int,
    size: tuple[int, int] | None = None,
    engine: str = "",
    changes: Mapping[str, Any] | None = None,
) -> Step:
    """An update of the suite's detection loop on a timm backbone with random weights.

    Args:
        name: As timm's.
        fabric: Device and precision.
        batch: Images.
        size: Height and width of the images; 800 x 1216 by default. Where the recipe wants
            squares, their side is the height, and the recipe's by default.
        engine: Name of the engine; the scale's own by default.
        changes: What differs from the recipe of scale ``full``.
    """
    spec = f"timm:{name},pretrained=false"
    selection = Selection("full", (spec,), engine=engine)
    recipe: Any = Plan(load_catalog(), selection).cases("detection")[0].recipe
    assert isinstance(recipe, DetectionRecipe)
    recipe = recipe.model_copy(update=dict(changes or {}))
    shape = size or USUAL_SIZE
    if recipe.square:
        recipe = recipe.model_copy(update={"image_size": size[0] if size else recipe.image_size})
        shape = (recipe.image_size, recipe.image_size)
    backbone = build_backbone(
        parse_backbone(spec, load_catalog()), image_size=None, drop_path=recipe.drop_path
    )
    samples_of_a_step = samples(batch, shape, fabric.device)
    batches: Any = [samples_of_a_step]
    detector = build_detector(backbone, recipe, CLASSES)
    loop = DetectionLoop(detector, recipe, fabric, batches, lambda progress: None)
    detector.train()

    def run() -> torch.Tensor:
        return torch.stack(list(loop.update(samples_of_a_step).values())).sum()

    return Step(run, shape, lambda: loop.micro_batches)


def own_step(fabric: Fabric, *, batch: int, size: tuple[int, int] | None = None) -> Step:
    """An update of detectron2's own R50-FPN Mask R-CNN."""
    from detectron2 import model_zoo
    from detectron2.config import instantiate
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    config = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    model = instantiate(config).to(fabric.device).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    shape = size or USUAL_SIZE
    images, targets = samples(batch, shape, fabric.device)
    inputs = []
    for image, target in zip(images, targets, strict=True):
        instances = Instances(tuple(image.shape[-2:]))
        instances.gt_boxes, instances.gt_classes = Boxes(target.boxes), target.labels
        instances.gt_masks = BitMasks(target.masks)
        inputs.append({"image": image * 255, "instances": instances})

    def run() -> torch.Tensor:
        with EventStorage(), fabric.autocast():
            losses = model(inputs)
        loss: torch.Tensor = torch.stack(list(losses.values())).sum()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return Step(run, shape)


def timed(step: Step, fabric: Fabric, *, steps: int) -> tuple[float, float]:
    """Seconds a step and peak memory in MB of some steps behind two warm ones.

    Raises:
        ValueError: The loss of the last step is not finite.
    """
    for _ in range(min(_WARM, steps)):
        step.run()
    reset_peak(fabric.device)
    _settle(fabric)
    start = time.perf_counter()
    for _ in range(steps):
        loss = step.run()
    _settle(fabric)
    seconds = (time.perf_counter() - start) / steps
    if not math.isfinite(float(loss)):
        raise ValueError(f"the loss is {float(loss)}")
    return seconds, peak_memory_mb(fabric.device)


def _settle(fabric: Fabric) -> None:
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
