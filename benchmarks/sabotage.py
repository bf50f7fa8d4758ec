"""What the gate catches: break one thing and see whether the case turns red.

Faults are put into the rooms of the training code, not into a recipe, because a changed recipe is
told by its protocol hash::

    python -m benchmarks.sabotage            # every fault on every micro backbone
    python -m benchmarks.sabotage -k resnet
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

import bob.backbones.build
import bob.tasks.finetune
import bob.training.loop
from benchmarks.common import bench, parser, smoke_cases
from bob.case import Case, Status
from bob.datasets import Split


@contextmanager
def random_weights() -> Iterator[None]:
    """Loading a checkpoint does nothing, so pretrained backbones stay as initialised."""
    with patch.object(bob.backbones.build, "load_checkpoint", lambda module, entry: None):
        yield


@contextmanager
def tenth_of_learning_rate() -> Iterator[None]:
    """Every group of the optimiser starts from a tenth of its rate."""
    build = bob.training.loop.build_optimiser

    def slow(*args: Any) -> torch.optim.Optimizer:
        optimiser = build(*args)
        for group in optimiser.param_groups:
            group["lr"] /= 10
        return optimiser

    with patch.object(bob.training.loop, "build_optimiser", slow):
        yield


@contextmanager
def wrong_labels(share: float = 0.2) -> Iterator[None]:
    """A share of the train labels is moved to another class, evenly."""
    build = bob.tasks.finetune.train_batches

    def mislabelled(split: Split, *args: Any, **kwargs: Any) -> Any:
        generator = torch.Generator().manual_seed(1)
        targets = split.targets.clone()
        classes = int(targets.max()) + 1
        wrong = torch.rand(len(targets), generator=generator) < share
        shift = torch.randint(1, classes, (int(wrong.sum()),), generator=generator)
        targets[wrong] = (targets[wrong] + shift) % classes
        return build(Split(split.images, targets), *args, **kwargs)

    with patch.object(bob.tasks.finetune, "train_batches", mislabelled):
        yield


@contextmanager
def transposed_evaluation() -> Iterator[None]:
    """Test images have rows and columns exchanged."""
    prepare = bob.tasks.finetune.normalised

    def transposed(images: torch.Tensor, *args: Any) -> torch.Tensor:
        return prepare(images.transpose(2, 3).contiguous(), *args)

    with patch.object(bob.tasks.finetune, "normalised", transposed):
        yield


FAULTS = {
    "random weights": random_weights,
    "a tenth of the learning rate": tenth_of_learning_rate,
    "20 % wrong labels": wrong_labels,
    "evaluation images transposed": transposed_evaluation,
}


def applies(fault: str, case: Case) -> bool:
    """Weights can only be lost where there are some."""
    return fault != "random weights" or case.backbone.weights is not None


def main() -> int:
    """Command line; the exit status is 1 when a fault went unnoticed."""
    args = parser(__doc__).parse_args()
    made = bench(args.accelerator, args.precision)
    missed = []
    total = 0
    for case in smoke_cases(args.match):
        for fault, broken in FAULTS.items():
            if not applies(fault, case):
                continue
            total += 1
            with broken():
                verdict = made.evaluate(case).verdict
            if verdict.status is not Status.FAIL:
                missed.append(f"{case.name}: {fault}")
            print(f"{case.name} with {fault}: {verdict.status.value}; {verdict.reason}", flush=True)
    print(f"{total - len(missed)} of {total} faults caught")
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
