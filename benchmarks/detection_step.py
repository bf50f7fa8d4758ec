"""Training steps of full-size Cascade Mask R-CNN under detectron2: images a second and memory.

ConvNeXt-T and ViT-B through the suite's detection loop and recipes of scale ``full``, beside
detectron2's own R50-FPN Mask R-CNN in the same run; random weights and images::

    python -m benchmarks.detection_step --accelerator cuda --batch 4
    python -m benchmarks.detection_step --accelerator cpu --batch 1 --size 128 --steps 1

The recipes' sizes are taken unless ``--size`` says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from benchmarks.common import parser
from benchmarks.detector_steps import Step, own_step, suite_step, timed
from bob.detection.detectron2_engine import require_detectron2
from bob.distributed.strategy import make_fabric

NAMES = ("convnext_tiny", "vit_base_patch16_224")


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
    size = (args.size, args.size) if args.size else None
    rows: dict[str, Callable[[], Step]] = {
        "detectron2 R50-FPN Mask R-CNN": lambda: own_step(fabric, batch=args.batch, size=size)
    }
    for name in NAMES:
        rows[f"{name} Cascade Mask R-CNN"] = lambda name=name: suite_step(
            name, fabric, batch=args.batch, size=size, engine="detectron2"
        )
    first = 0.0
    for name, make in rows.items():
        if args.match not in name:
            continue
        seconds, memory = timed(make(), fabric, steps=args.steps)
        rate = args.batch / seconds
        first = first or rate
        print(
            f"{name:<45} {rate:8.2f} images/s  {rate / first:5.2f} of the first  {memory:8.0f} MB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
