"""End-to-end fine-tuning. Source: the paper's ``train.py`` (hsouri/bob-classification).

Every weight is trained. The judged score is the last epoch's top-1 on the test split, on which no
choice is made; the paper reports the best epoch on the split it watches, recorded as ``best_top1``.
Where the dataset has shifted targets, the model of the last epoch is read on them too, as the
paper's fine-tuned ImageNet checkpoints are (hsouri/bob-ood-classification).
"""

from __future__ import annotations

import time

import numpy as np
import torch
from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Progress
from bob.datasets import ClassificationData, ShiftData
from bob.tasks.base import TaskOutput
from bob.tasks.ood import ShiftScore, score_shift, shift_files, shift_metrics
from bob.tasks.recipes import FinetuneRecipe
from bob.tasks.scores import classification_metrics, outcomes
from bob.training.classifier import Classifier
from bob.training.data import ScoringBatches, train_batches
from bob.training.environment import system_metrics
from bob.training.loop import Emit, Loop


def run(
    case: Case,
    backbone: Backbone,
    data: ClassificationData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Fine-tune the backbone and score it after each epoch.

    Returns:
        ``top1``, ``top5`` and ``test_loss`` of the last epoch, ``best_top1`` and ``best_epoch``
        (counted from 1), and ``images_per_second`` of training. With shifts, what ``ood`` gives of
        them besides (``shifted_top1``, ``gap``, ``shift/<group>``, ...).
    """
    recipe = case.recipe
    assert isinstance(recipe, FinetuneRecipe)
    loop = Loop(
        model=Classifier(backbone, len(data.class_names)),
        recipe=recipe,
        fabric=fabric,
        batches=train_batches(
            data.train,
            recipe,
            backbone,
            device=fabric.device,
            workers=context.workers,
            seed=case.seed,
        ),
        classes=len(data.class_names),
        emit=emit,
    )
    images = ScoringBatches(data.test, backbone, context.workers)
    history: list[dict[str, float]] = []
    evaluate_seconds = 0.0
    logits = torch.empty(0)
    for epoch in range(recipe.epochs):
        values = loop.epoch(epoch)
        start = time.perf_counter()
        emit(Progress(phase="evaluate", epoch=epoch, epochs=recipe.epochs))
        logits = loop.predict(images)
        values |= classification_metrics(logits, data.test.targets)
        evaluate_seconds += time.perf_counter() - start
        history.append(values)
        emit(
            Progress(
                phase="epoch",
                epoch=epoch,
                epochs=recipe.epochs,
                metrics={**values, **system_metrics(fabric.device)},
            )
        )
    start = time.perf_counter()
    shifts = _shifts(loop, backbone, data, logits, context=context)
    evaluate_seconds += time.perf_counter() - start
    scores = [values["top1"] for values in history]
    best = int(np.argmax(scores))
    return TaskOutput(
        metrics={
            **{name: history[-1][name] for name in ("top1", "top5", "test_loss", "train_loss")},
            "best_top1": scores[best],
            "best_epoch": float(best + 1),
            "images_per_second": loop.images_seen / max(loop.train_seconds, 1e-9),
            "micro_batches": float(loop.micro_batches),
            **(
                shift_metrics(shifts, scores[-1], len(data.test), case.dataset.baseline)
                if shifts
                else {}
            ),
        },
        history=tuple(history),
        outcomes=outcomes(logits, data.test.targets, data.class_names),
        timings={"train": loop.train_seconds, "evaluate": evaluate_seconds},
        files=shift_files(case, shifts) if shifts else {},
        remarks=(
            *data.train.remarks,
            *data.test.remarks,
            *(text for one in shifts for text in one.shift.split.remarks),
        ),
    )


def _shifts(
    loop: Loop,
    backbone: Backbone,
    data: ClassificationData,
    logits: torch.Tensor,
    *,
    context: Context,
) -> list[ShiftScore]:
    """The trained model on every shifted target; nothing where the dataset has none."""
    if not isinstance(data, ShiftData):
        return []
    return [
        score_shift(
            shift,
            loop.predict(ScoringBatches(shift.split, backbone, context.workers)),
            logits,
            data.test.targets,
        )
        for shift in data.shifts
    ]
