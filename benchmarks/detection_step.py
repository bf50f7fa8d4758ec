"""Training steps of full-size Cascade Mask R-CNN under detectron2: images a second and memory.

ConvNeXt-T and ViT-B through the suite's adapter and recipes of scale ``full``, beside detectron2's
own R50-FPN Mask R-CNN in the same run; random weights and images::

    python -m benchmarks.detection_step --accelerator cuda --batch 4
    python -m benchmarks.detection_step --accelerator cpu --batch 1 --size 128 --steps 1

The recipes' sizes are taken unless ``--size`` says otherwise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric

from benchmarks.common import parser
from bob.backbones import build_backbone
from bob.catalog import load_catalog, parse_backbone
from bob.datasets.instances import Target
from bob.detection.detectron2_engine import require_detectron2
from bob.detection.engine import build_detector
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.training.environment import peak_memory_mb, reset_peak
from bob.training.loop import make_fabric

NAMES = ("convnext_tiny", "vit_base_patch16_224")
_WARM = 2


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


def suite_step(name: str, fabric: Fabric, batch: int, size: int) -> Callable[[], None]:
    """A step of the suite's detector on a timm backbone."""
    spec = f"timm:{name},pretrained=false"
    recipe: Any = Plan(load_catalog(), Selection("full", (spec,))).cases("detection")[0].recipe
    assert isinstance(recipe, DetectionRecipe)
    shape = (size, size) if size else (800, 1216)
    if recipe.square:
        recipe = recipe.model_copy(update={"image_size": size or recipe.image_size})
        shape = (recipe.image_size, recipe.image_size)
    backbone = build_backbone(
        parse_backbone(spec, load_catalog()), image_size=None, drop_path=recipe.drop_path
    )
    detector = build_detector(backbone, recipe, 80).to(fabric.device).train()
    optimiser = torch.optim.AdamW(detector.parameters(), recipe.lr)
    images, targets = samples(batch, shape, fabric.device)

    def step() -> None:
        with fabric.autocast():
            losses = detector(images, targets)
        sum(losses.values()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def own_step(fabric: Fabric, batch: int, size: int) -> Callable[[], None]:
    """A step of detectron2's own R50-FPN Mask R-CNN."""
    from detectron2 import model_zoo
    from detectron2.config import instantiate
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    config = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    model = instantiate(config).to(fabric.device).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    images, targets = samples(batch, (size, size) if size else (800, 1216), fabric.device)
    inputs = []
    for image, target in zip(images, targets, strict=True):
        one = Instances(tuple(image.shape[-2:]))
        one.gt_boxes, one.gt_classes = Boxes(target.boxes), target.labels
        one.gt_masks = BitMasks(target.masks)
        inputs.append({"image": image * 255, "instances": one})

    def step() -> None:
        with EventStorage(), fabric.autocast():
            losses = model(inputs)
        sum(losses.values()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def timed(step: Callable[[], None], fabric: Fabric, batch: int, steps: int) -> tuple[float, float]:
    """Images a second and peak memory in MB of some steps behind two warm ones."""
    for _ in range(min(_WARM, steps)):
        step()
    reset_peak(fabric.device)
    _settle(fabric)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _settle(fabric)
    return steps * batch / (time.perf_counter() - start), peak_memory_mb(fabric.device)


def _settle(fabric: Fabric) -> None:
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--batch", type=int, default=4)
    command.add_argument("--steps", type=int, default=10)
    command.add_argument("--size", type=int, default=0, help="side of square images")
    args = command.parse_args()
    require_detectron2()
    fabric = make_fabric(args.accelerator, args.precision)
    where = torch.cuda.get_device_name() if fabric.device.type == "cuda" else "cpu"
    print(f"{where}, batch {args.batch}, torch {torch.__version__}")
    rows = {"detectron2 R50-FPN Mask R-CNN": lambda: own_step(fabric, args.batch, args.size)}
    for name in NAMES:
        rows[f"{name} Cascade Mask R-CNN"] = lambda name=name: suite_step(
            name, fabric, args.batch, args.size
        )
    first = 0.0
    for name, make in rows.items():
        if args.match not in name:
            continue
        rate, memory = timed(make(), fabric, args.batch, args.steps)
        first = first or rate
        print(
            f"{name:<45} {rate:8.2f} images/s  {rate / first:5.2f} of the first  {memory:8.0f} MB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
