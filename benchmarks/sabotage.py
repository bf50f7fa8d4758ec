"""What the gate catches: break one thing and see whether the case turns red.

Faults are put into the code and the data, not into a recipe, because a changed recipe is told by
its protocol hash::

    python -m benchmarks.sabotage            # every fault on every micro backbone
    python -m benchmarks.sabotage -k resnet --task knn
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

import bob.backbones.build
import bob.datasets
import bob.training.loop
from benchmarks.common import bench, parser, smoke_cases
from bob.case import Case, Status
from bob.datasets import ClassificationData, Data, RetrievalData, ShiftData, Split
from bob.tasks import TASKS


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

    def mislabelled(data: Data) -> Data:
        if not isinstance(data, ClassificationData):
            return data
        generator = torch.Generator().manual_seed(1)
        targets = data.train.targets.clone()
        classes = len(data.class_names)
        wrong = torch.rand(len(targets), generator=generator) < share
        shift = torch.randint(1, classes, (int(wrong.sum()),), generator=generator)
        targets[wrong] = (targets[wrong] + shift) % classes
        return replace(data, train=Split(data.train.images, targets))

    with _changed_data(mislabelled):
        yield


@contextmanager
def transposed_evaluation() -> Iterator[None]:
    """Images that scores are read on have rows and columns exchanged."""

    def turned(split: Split) -> Split:
        return Split(split.images.transpose(2, 3).contiguous(), split.targets)

    def transposed(data: Data) -> Data:
        if isinstance(data, RetrievalData):
            return replace(data, queries=turned(data.queries))
        if isinstance(data, ShiftData):
            shifts = tuple(replace(one, split=turned(one.split)) for one in data.shifts)
            return replace(data, test=turned(data.test), shifts=shifts)
        return replace(data, test=turned(data.test))

    with _changed_data(transposed):
        yield


@contextmanager
def _changed_data(change: Callable[[Data], Data]) -> Iterator[None]:
    load = bob.datasets.load_dataset
    with patch.object(bob.datasets, "load_dataset", lambda entry: change(load(entry))):
        yield


FAULTS = {
    "random weights": random_weights,
    "a tenth of the learning rate": tenth_of_learning_rate,
    "20 % wrong labels": wrong_labels,
    "evaluation images transposed": transposed_evaluation,
}


def applies(fault: str, case: Case) -> bool:
    """Whether a case has what the fault breaks: weights, a learning rate, train labels."""
    if fault == "random weights":
        return case.backbone.weights is not None
    if fault == "a tenth of the learning rate":
        return case.task in ("finetune", "low_shot_finetune")
    return fault != "20 % wrong labels" or TASKS[case.task].data != "retrieval"


def main() -> int:
    """Command line; the exit status is 1 when a fault went unnoticed."""
    command = parser(__doc__)
    command.add_argument("--task", choices=TASKS, help="only cases of this task")
    args = command.parse_args()
    made = bench(args.accelerator, args.precision)
    missed = []
    total = 0
    for case in smoke_cases(args.match, args.task):
        for fault, broken in FAULTS.items():
            if not applies(fault, case):
                continue
            total += 1
            with broken():
                verdict = made.evaluate(case).verdict
            if verdict.status is not Status.FAIL:
                missed.append(f"{case.task} {case.name}: {fault}")
            print(
                f"{case.task} {case.name} with {fault}: {verdict.status.value}; {verdict.reason}",
                flush=True,
            )
    print(f"{total - len(missed)} of {total} faults caught")
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
