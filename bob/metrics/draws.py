"""Scores over low-shot draws, whatever learnt from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import torch
from numpy.typing import NDArray

from bob.case import Contributions, ImageList
from bob.metrics.calibration import calibration_metrics, class_accuracies
from bob.metrics.classification import outcomes, top_k


@dataclass(frozen=True)
class DrawScore:
    """What a classifier that learnt from one draw did on the test split.

    Attributes:
        top1: Accuracy.
        calibration: Metrics of ``calibration_metrics``.
        classes: Accuracy by class, of the classes that have a test image.
        correct: Whether each test image was classified correctly, ``(n,)``; none of a draw from a
            checkpoint of an earlier version.
    """

    top1: float
    calibration: Mapping[str, float]
    classes: Mapping[int, float]
    correct: NDArray[np.bool_] | None = None


Scores = Mapping[str, Sequence[DrawScore]]
"""By setting, one score a draw."""


def score_draw(
    logits: torch.Tensor,
    targets: torch.Tensor,
    class_names: Sequence[str],
    *,
    temperature: float | None = None,
) -> DrawScore:
    """Score of one draw.

    Args:
        logits: On the test split, ``(n, classes)`` on the CPU.
        targets: ``(n,)``.
        class_names: One name per class.
        temperature: Fitted on train images outside of what was trained on, where there were any.
    """
    found = outcomes(logits, targets, class_names, temperature=temperature, top=1)
    return DrawScore(
        top_k(logits, targets),
        calibration_metrics(found),
        class_accuracies(found.targets, found.correct),
        (logits.argmax(dim=1) == targets).numpy(),
    )


def draw_metrics(scores: Scores) -> dict[str, float]:
    """Means over everything, and mean and standard deviation of top-1 over each setting's draws.

    Returns:
        ``top1``, ``top1_<setting>`` and, of several draws, ``spread_<setting>``; the metrics of
        ``calibration_metrics`` that every draw has, as means; ``worst_class_top1``, the lowest of
        ``mean_class_accuracies``.
    """
    tops = {setting: [draw.top1 for draw in draws] for setting, draws in scores.items()}
    means = {setting: fmean(values) for setting, values in tops.items()}
    spreads = {
        f"spread_{setting}": stdev(values) for setting, values in tops.items() if len(values) > 1
    }
    named = {f"top1_{setting}": value for setting, value in means.items()}
    return {
        "top1": fmean(means.values()),
        **named,
        **spreads,
        **{name: _mean(scores, _calibration(name)) for name in calibration_names(scores)},
        "worst_class_top1": min(mean_class_accuracies(scores).values()),
    }


def draw_contributions(scores: Scores, targets: torch.Tensor) -> Contributions | None:
    """What each test image contributes to ``top1``: its mean over settings and draws.

    Args:
        scores: As of ``draw_metrics``.
        targets: Classes of the test split, ``(n,)``.

    Returns:
        None where a draw does not say which images it got right.
    """
    means = []
    for draws in scores.values():
        right = [draw.correct for draw in draws if draw.correct is not None]
        if len(right) < len(draws):
            return None
        means.append(np.mean(right, axis=0))
    return Contributions(values=np.mean(means, axis=0), lists=(ImageList.of(targets.numpy()),))


def mean_class_accuracies(scores: Scores) -> dict[int, float]:
    """Accuracy by class, the mean over settings and draws."""
    first = next(iter(scores.values()))[0]
    return {label: _mean(scores, _class_top1(label)) for label in first.classes}


def calibration_names(scores: Scores) -> list[str]:
    """The metrics of calibration that every draw has, but for its worst class."""
    together = [draw.calibration for draws in scores.values() for draw in draws]
    return [
        name
        for name in together[0]
        if name != "worst_class_top1" and all(name in values for values in together)
    ]


def _mean(scores: Scores, value: Callable[[DrawScore], float]) -> float:
    """Mean over settings of the mean over their draws."""
    return fmean(fmean(value(draw) for draw in draws) for draws in scores.values())


def _calibration(name: str) -> Callable[[DrawScore], float]:
    return lambda draw: draw.calibration[name]


def _class_top1(label: int) -> Callable[[DrawScore], float]:
    return lambda draw: draw.classes[label]
