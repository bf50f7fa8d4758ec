"""Scores of a classifier from its logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchmetrics.functional.classification.accuracy import multiclass_accuracy

from bob.case import Outcomes

TOP = 5
"""Classes that are kept of each sample."""


def top_k(logits: torch.Tensor, targets: torch.Tensor, k: int = 1) -> float:
    """Share of samples whose class is among the ``k`` highest logits (of as many as there are).

    Args:
        logits: ``(n, classes)``.
        targets: ``(n,)``.
        k: How many of the highest logits count.
    """
    classes = logits.shape[1]
    return float(
        multiclass_accuracy(
            logits, targets, num_classes=classes, top_k=min(k, classes), average="micro"
        )
    )


def classification_metrics(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Top-1, top-5 (of as many classes as there are) and cross-entropy.

    Args:
        logits: ``(n, classes)``; a row that is not finite makes every value NaN.
        targets: ``(n,)``.
    """
    if not torch.isfinite(logits).all():
        return dict.fromkeys(("top1", "top5", "test_loss"), float("nan"))
    return {
        "top1": top_k(logits, targets, 1),
        "top5": top_k(logits, targets, 5),
        "test_loss": float(torch.nn.functional.cross_entropy(logits, targets)),
    }


def outcomes(
    logits: torch.Tensor,
    targets: torch.Tensor,
    class_names: Sequence[str],
    *,
    temperature: float | None = None,
    top: int = TOP,
) -> Outcomes:
    """Per-sample outcomes.

    Args:
        logits: ``(n, classes)`` on the CPU, or logarithms of probabilities.
        targets: ``(n,)``.
        class_names: One name per class.
        temperature: Fitted on held-out train images, where there were any.
        top: Classes to keep of each sample (of as many as there are).
    """
    logarithms = logits.double().log_softmax(dim=1)
    probabilities = logarithms.exp()
    shown = min(top, logits.shape[1])
    # where classes are equally probable, as in a vote, the first of them is named
    if shown == 1:  # the same without sorting all classes
        order = logarithms.argmax(dim=1, keepdim=True)
    else:
        order = logarithms.argsort(dim=1, descending=True, stable=True)[:, :shown]
    return Outcomes(
        targets=targets.numpy(),
        target_log_probabilities=logarithms.gather(1, targets[:, None])[:, 0].float().numpy(),
        top_classes=order.int().numpy(),
        top_probabilities=probabilities.gather(1, order).float().numpy(),
        square_sums=probabilities.square().sum(dim=1).float().numpy(),
        class_names=tuple(class_names),
        temperature=temperature,
        scaled_confidences=(
            (logits.double() / temperature).softmax(dim=1).amax(dim=1).float().numpy()
            if temperature is not None
            else None
        ),
    )
