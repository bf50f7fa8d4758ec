"""What the gate catches: break one thing and see whether the case turns red.

Faults are put into the code and the data, not into a recipe, because a changed recipe is told by
its protocol hash::

    python -m benchmarks.sabotage            # every fault on every micro backbone
    python -m benchmarks.sabotage -k resnet --task knn
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

import bob.backbones.build
import bob.datasets
import bob.detection.loop
import bob.training.loop
from benchmarks.common import evaluator, parser, smoke_cases
from bob.case import Case, Status
from bob.datasets import ClassificationData, Data, RetrievalData, ShiftData, Split
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import DetectionData, DetectionShiftData
from bob.protocols import PROTOCOLS


@contextmanager
def random_weights() -> Iterator[None]:
    """Loading a checkpoint does nothing, so pretrained backbones stay as initialised."""
    with patch.object(bob.backbones.build, "load_checkpoint", lambda module, entry: ()):
        yield


@contextmanager
def tenth_of_learning_rate() -> Iterator[None]:
    """Every group of the optimiser starts from a tenth of its rate."""
    with slower(0.1):
        yield


@contextmanager
def slower(factor: float) -> Iterator[None]:
    """Every group of the optimiser starts from so much of its rate."""
    build = bob.training.loop.build_optimiser

    def slow(*args: Any) -> torch.optim.Optimizer:
        optimiser = build(*args)
        for group in optimiser.param_groups:
            group["lr"] *= factor
        return optimiser

    groups = bob.detection.loop.parameter_groups

    def slow_groups(*args: Any) -> list[dict[str, Any]]:
        return [{**group, "lr": group["lr"] * factor} for group in groups(*args)]

    with (
        patch.object(bob.training.loop, "build_optimiser", slow),
        patch.object(bob.detection.loop, "parameter_groups", slow_groups),
    ):
        yield


@contextmanager
def wrong_labels(share: float = 0.2) -> Iterator[None]:
    """A share of the train labels is moved to another class, evenly."""

    def moved(targets: torch.Tensor, classes: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        targets = targets.clone()
        wrong = torch.rand(len(targets), generator=generator) < share
        shift = torch.randint(1, classes, (int(wrong.sum()),), generator=generator)
        targets[wrong] = (targets[wrong] + shift) % classes
        return targets

    def mislabelled(data: Data) -> Data:
        classes = len(data.class_names)
        if isinstance(data, DetectionData | DetectionShiftData):
            return replace(
                data, train=_relabelled(data.train, lambda labels: moved(labels, classes))
            )
        if not isinstance(data, ClassificationData):
            return data
        assert isinstance(data.train, Split)
        return replace(data, train=Split(data.train.images, moved(data.train.targets, classes)))

    with changed_data(mislabelled):
        yield


@contextmanager
def transposed_evaluation() -> Iterator[None]:
    """Images that scores are read on have rows and columns exchanged."""
    with changed_evaluation(lambda images: images.transpose(-2, -1)):
        yield


@contextmanager
def changed_evaluation(change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Images that scores are read on are other ones, under the labels and boxes as they were.

    Args:
        change: Of images ``(..., height, width)``.
    """

    def changed(split: Any) -> Any:
        if isinstance(split, CocoSplit):
            return _changed_scenes(split, change)
        return Split(change(split.images).contiguous(), split.targets)

    def of(data: Data) -> Data:
        if isinstance(data, RetrievalData):
            return replace(data, queries=changed(data.queries))
        if isinstance(data, DetectionShiftData):
            scenes = tuple(replace(shift, split=changed(shift.split)) for shift in data.shifts)
            return replace(data, test=data.test and changed(data.test), shifts=scenes)
        if isinstance(data, ShiftData):
            shifts = tuple(replace(shift, split=changed(shift.split)) for shift in data.shifts)
            return replace(data, test=changed(data.test), shifts=shifts)
        return replace(data, test=changed(data.test))

    with changed_data(of):
        yield


def _relabelled(split: CocoSplit, change: Callable[[torch.Tensor], torch.Tensor]) -> CocoSplit:
    annotations = split.dataset["annotations"]
    label = {key: index for index, key in enumerate(split.category_ids)}
    labels = change(torch.tensor([label[annotation["category_id"]] for annotation in annotations]))
    content = {
        **split.dataset,
        "annotations": [
            {**annotation, "category_id": split.category_ids[int(new)]}
            for annotation, new in zip(annotations, labels, strict=True)
        ],
    }
    return CocoSplit(content, split.folder, source=split.source, masks=split.masks)


def _changed_scenes(split: CocoSplit, change: Callable[[torch.Tensor], torch.Tensor]) -> CocoSplit:
    other: Any = copy.copy(split)
    other._kept = None
    sample = split.sample
    other.sample = lambda index: replace(
        sample(index), image=change(sample(index).image).contiguous()
    )
    return other


@contextmanager
def changed_data(change: Callable[[Data], Data]) -> Iterator[None]:
    """What every loader gives is changed on its way to the runner."""
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
        return "lr" in type(case.recipe).model_fields
    return fault != "20 % wrong labels" or PROTOCOLS[case.task].data != "retrieval"


def main() -> int:
    """Command line; the exit status is 1 when a fault went unnoticed."""
    command = parser(__doc__)
    command.add_argument("--task", choices=PROTOCOLS, help="only cases of this task")
    args = command.parse_args()
    made = evaluator(args.accelerator, args.precision)
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
