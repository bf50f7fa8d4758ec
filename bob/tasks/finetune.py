"""End-to-end fine-tuning. Source: the paper's ``train.py`` (hsouri/bob-classification).

Every weight is trained. The judged score is the last epoch's top-1 on the test split, on which no
choice is made; the paper reports the best epoch on the split it watches, recorded as ``best_top1``.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from lightning_fabric import Fabric
from torchmetrics.functional.classification import multiclass_accuracy

from bob.backbones import Backbone
from bob.case import Case, Context, Outcomes, Progress
from bob.datasets import ClassificationData
from bob.tasks.base import TaskOutput
from bob.tasks.recipes import FinetuneRecipe
from bob.training.classifier import Classifier
from bob.training.data import normalised, train_batches
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
        (counted from 1), and ``images_per_second`` of training.
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
    images = normalised(data.test.images, backbone)
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
    scores = [values["top1"] for values in history]
    best = int(np.argmax(scores))
    return TaskOutput(
        metrics={
            **{name: history[-1][name] for name in ("top1", "top5", "test_loss", "train_loss")},
            "best_top1": scores[best],
            "best_epoch": float(best + 1),
            "images_per_second": loop.images_seen / max(loop.train_seconds, 1e-9),
            "micro_batches": float(loop.micro_batches),
        },
        history=tuple(history),
        outcomes=_outcomes(logits, data),
        timings={"train": loop.train_seconds, "evaluate": evaluate_seconds},
    )


def classification_metrics(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Top-1, top-5 (of as many classes as there are) and cross-entropy.

    Args:
        logits: ``(n, classes)``; a row that is not finite makes every value NaN.
        targets: ``(n,)``.
    """
    if not torch.isfinite(logits).all():
        return dict.fromkeys(("top1", "top5", "test_loss"), float("nan"))
    classes = logits.shape[1]

    def accuracy(k: int) -> float:
        return float(
            multiclass_accuracy(
                logits, targets, num_classes=classes, top_k=min(k, classes), average="micro"
            )
        )

    return {
        "top1": accuracy(1),
        "top5": accuracy(5),
        "test_loss": float(torch.nn.functional.cross_entropy(logits, targets)),
    }


def _outcomes(logits: torch.Tensor, data: ClassificationData) -> Outcomes:
    confidences, predictions = logits.softmax(dim=1).max(dim=1)
    return Outcomes(
        targets=data.test.targets.numpy(),
        predictions=predictions.numpy(),
        confidences=confidences.numpy(),
        class_names=data.class_names,
    )
