"""Fine-tuning through the suite beside a bare loop over the same tensors, in images per second.

The bare loop is what one would write by hand: forward, loss, backward, optimiser step, with the
same model, optimiser, batch size and images. Both take turns, and the ratio is taken pair by pair::

    python -m benchmarks.training_overhead -k swin_micro_glyphs
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn

from benchmarks.common import parser, smoke_cases
from bob.backbones import build_backbone
from bob.case import Case
from bob.datasets import load_dataset
from bob.distributed.strategy import make_fabric
from bob.protocols.finetune import FinetuneRecipe
from bob.training.classifier import Classifier
from bob.training.data import normalised, train_batches
from bob.training.loop import Loop
from bob.training.optimiser import build_optimiser


class Pair:
    """The suite's loop and the bare one over the same tensors."""

    def __init__(self, case: Case, accelerator: str, precision: str) -> None:
        assert isinstance(case.recipe, FinetuneRecipe)
        self.recipe = case.recipe.model_copy(update={"epochs": 1000})
        self.fabric = make_fabric(accelerator, precision)
        data = load_dataset(case.dataset)
        device = self.fabric.device

        def model() -> Classifier:
            torch.manual_seed(0)
            return Classifier(build_backbone(case.backbone, image_size=32), 10).to(device)

        backbone = build_backbone(case.backbone, image_size=32)
        self.loop = Loop(
            model=model(),
            recipe=self.recipe,
            fabric=self.fabric,
            batches=train_batches(
                data.train, self.recipe, backbone, device=device, workers=0, seed=0
            ),
            classes=10,
            emit=lambda progress: None,
        )
        self.model = model()
        self.optimiser = build_optimiser(self.model, self.recipe)
        self.loss = nn.CrossEntropyLoss(label_smoothing=self.recipe.label_smoothing)
        images = normalised(data.train.images, backbone).to(device)
        size = self.recipe.batch_size
        self.batches = list(
            zip(images.split(size), data.train.targets.to(device).split(size), strict=True)
        )[: len(self.loop.batches)]

    def suite(self, epoch: int) -> float:
        """Images per second of one epoch through the suite."""
        seen, seconds = self.loop.images_seen, self.loop.train_seconds
        self.loop.epoch(epoch)
        return (self.loop.images_seen - seen) / (self.loop.train_seconds - seconds)

    def bare(self) -> float:
        """Images per second of one bare epoch."""
        self.model.train()
        images_seen = 0
        start = time.perf_counter()
        for images, targets in self.batches:
            with self.fabric.autocast():
                loss = self.loss(self.model(images), targets)
            loss.backward()
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            images_seen += len(targets)
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return images_seen / (time.perf_counter() - start)


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--pairs", type=int, default=9)
    args = command.parse_args()
    for case in smoke_cases(args.match or "glyphs"):
        pair = Pair(case, args.accelerator, args.precision)
        pair.suite(0), pair.bare()
        ratios, speeds = [], []
        for turn in range(args.pairs):
            if turn % 2:
                bare, suite = pair.bare(), pair.suite(turn + 1)
            else:
                suite, bare = pair.suite(turn + 1), pair.bare()
            ratios.append(suite / bare)
            speeds.append((suite, bare))
        middle = statistics.median(ratios)
        suite, bare = (statistics.median(column) for column in zip(*speeds, strict=True))
        print(
            f"{case.name}: suite {suite:.0f} images/s, bare loop {bare:.0f} images/s, "
            f"ratio {middle:.3f} (median of {args.pairs}; {min(ratios):.3f} to {max(ratios):.3f})",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
