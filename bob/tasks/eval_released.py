"""The classifier a checkpoint was released with, read on ImageNet and its variants.

Nothing is learnt and nothing depends on the seed. Images are prepared as timm's ``validate.py``
does, so that scores can be held against the tables that timm publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from bob.artifacts.shift import shift_files
from bob.backbones import ReleasedClassifier
from bob.backbones.classifier import CLASSES
from bob.case import Content, Progress
from bob.datasets import AnySplit, ClassificationData, ShiftData
from bob.distributed.group import batches_of
from bob.errors import BobError
from bob.job import Job, TaskOutput
from bob.metrics.classification import classification_metrics, outcomes
from bob.metrics.shift import group_metrics, score_shift, shift_contributions, shift_metrics
from bob.protocols.eval_released import ReleasedRecipe
from bob.training.image_loader import transformed, without_position
from bob.training.memory import Parts
from bob.training.remembered import remembered

BATCH = 128


def run(job: Job[ReleasedRecipe, ClassificationData, ReleasedClassifier]) -> TaskOutput:
    """Classify the test split and, where the dataset has them, every shifted target.

    Returns:
        ``top1``, ``top5`` and ``test_loss`` on the test split. With shifts, what ``ood`` gives of
        them (``shifted_top1``, ``shift/<group>``, ...), and ``shift_top5/<group>``,
        ``source_top1/<group>`` and ``source_top5/<group>``, the last two on the test images of the
        group's classes. Where a target holds some of the classes, logits of the others are masked.

    Raises:
        BobError: The dataset has other classes than the classifier, or a logit is not finite.
    """
    case, data = job.case, job.data
    if job.classes != CLASSES:
        raise BobError(
            f"Dataset {case.dataset.key!r} has {job.classes} classes, a released classifier tells "
            f"{CLASSES:,} apart; eval_released reads ImageNet and its variants.",
            kind="dataset",
        )
    started = time.perf_counter()
    reader = _Reader(job)
    shifts = data.shifts if isinstance(data, ShiftData) else ()
    total = len(data.test) + sum(len(shift.split) for shift in shifts)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        job.emit(Progress(phase="evaluate", step=done, steps=total))

    logits = reader.logits(data.test, f"{case.dataset.key} test", advance)
    scores = [
        score_shift(
            shift,
            reader.logits(shift.split, f"{case.dataset.key} {shift.name}", advance),
            logits,
            data.test.targets,
        )
        for shift in shifts
    ]
    metrics = classification_metrics(logits, data.test.targets)
    files: dict[str, Content] = {}
    if scores:
        metrics |= shift_metrics(scores, metrics["top1"], len(data.test), case.dataset.baseline)
        metrics |= group_metrics(scores)
        files = shift_files(case, scores)
    return TaskOutput(
        metrics=metrics,
        outcomes=outcomes(logits, data.test.targets, data.class_names),
        contributions=shift_contributions(scores, data.test.targets) if scores else None,
        timings={"evaluate": time.perf_counter() - started},
        files=files,
        remarks=(
            *data.test.remarks,
            *(text for shift in shifts for text in shift.split.remarks),
        ),
    )


class _Reader:
    def __init__(self, job: Job[ReleasedRecipe, ClassificationData, ReleasedClassifier]) -> None:
        module: Any = job.backbone.module.eval().to(memory_format=torch.channels_last)
        self.module = job.fabric.setup_module(module)
        self.job, self.parts = job, Parts.of_scoring(job.device, remembered(job, "score"))

    def logits(self, split: AnySplit, what: str, advance: Callable[[int], None]) -> torch.Tensor:
        """Float32 ``(n, classes)`` on the CPU, in the split's order."""
        loader = transformed(
            split,
            partial(without_position, self.job.backbone.transform),
            batches=batches_of(split, BATCH),
            workers=self.job.workers,
            pinned=self.job.device.type == "cuda",
        )
        batches = []
        with torch.inference_mode():
            for images in loader:
                logits = self._forward(images.contiguous(memory_format=torch.channels_last))
                if not torch.isfinite(logits).all():
                    raise BobError(
                        f"Logits of {self.job.backbone.key!r} on {what} are NaN or infinite under "
                        f"precision {self.job.fabric.strategy.precision.precision}. Check the "
                        "checkpoint, or run with --precision 32-true.",
                        kind="backbone",
                    )
                batches.append(logits)
                advance(len(logits))
        return torch.cat(batches)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        def logits(parts: Sequence[slice]) -> torch.Tensor:
            on_device = (images[part].to(self.job.device, non_blocking=True) for part in parts)
            return torch.cat([self.module(part).float() for part in on_device]).cpu()

        return self.parts.run(images, logits)
