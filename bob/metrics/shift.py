"""Accuracy under distribution shift, from the logits of one classifier on source and targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bob.case import Contributions, ImageList
from bob.catalog.schema import RobustnessBaseline
from bob.datasets import Shift
from bob.metrics.classification import top_k
from bob.protocols.chance import guessing_bound


@dataclass(frozen=True)
class ShiftScore:
    """How the classifier did on one target.

    Attributes:
        top1: Accuracy on the target.
        top5: Share of the target's images whose class is among the five likeliest.
        loss: Cross-entropy on the target.
        source_top1: Accuracy on the source's test images of the target's classes.
        source_top5: The same among the five likeliest.
        correct: Whether each of the target's images was classified correctly, ``(n,)``.
    """

    shift: Shift
    top1: float
    top5: float
    loss: float
    source_top1: float
    source_top5: float
    correct: NDArray[np.bool_]


def masked(logits: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Logits ``(n, all classes)`` with those of other classes at minus infinity."""
    if not classes:
        return logits
    kept = torch.full_like(logits, -math.inf)
    picks = list(classes)
    kept[:, picks] = logits[:, picks]
    return kept


def score_shift(
    shift: Shift, shifted: torch.Tensor, source: torch.Tensor, targets: torch.Tensor
) -> ShiftScore:
    """Accuracy on a target and on the matching part of the source.

    Args:
        shift: The target.
        shifted: Logits on the target, ``(n, classes)``.
        source: Logits on the source's test split, ``(m, classes)``.
        targets: Classes of the source's test split, ``(m,)``.
    """
    if shift.classes:
        rows = torch.isin(targets, torch.tensor(shift.classes))
        source, targets = masked(source[rows], shift.classes), targets[rows]
    first, fifth = (top_k(source, targets, k) if len(targets) else math.nan for k in (1, 5))
    shifted = masked(shifted, shift.classes)
    return ShiftScore(
        shift=shift,
        top1=top_k(shifted, shift.split.targets),
        top5=top_k(shifted, shift.split.targets, 5),
        loss=float(functional.cross_entropy(shifted, shift.split.targets)),
        source_top1=first,
        source_top5=fifth,
        correct=(shifted.argmax(dim=1) == shift.split.targets).numpy(),
    )


def shift_metrics(
    scores: Sequence[ShiftScore],
    top1: float,
    test_size: int,
    baseline: RobustnessBaseline | None,
) -> dict[str, float]:
    """Means over groups of shifts, such as corruptions, of the means within each group.

    Args:
        scores: One entry per target.
        top1: Accuracy on the source's test split.
        test_size: Images in that split.
        baseline: Where effective robustness is measured from.

    Returns:
        ``shifted_top1`` and ``shifted_loss``; ``gap``, what is lost on the way from the source;
        ``effective_robustness`` where there is a baseline; and ``shift/<group>`` for every group.
    """
    groups = _grouped(scores)
    means = {name: fmean(score.top1 for score in group) for name, group in groups.items()}
    reached = fmean(fmean(score.source_top1 for score in group) for group in groups.values())
    shifted = fmean(means.values())
    loss = fmean(fmean(score.loss for score in group) for group in groups.values())
    values = {"shifted_top1": shifted, "shifted_loss": loss, "gap": reached - shifted}
    if baseline is not None:
        usual = expected_shifted(top1, test_size, baseline)
        values["effective_robustness"] = shifted - usual
    return values | {f"shift/{name}": value for name, value in means.items()}


def shift_contributions(scores: Sequence[ShiftScore], source: torch.Tensor) -> Contributions:
    """What each image contributes to ``shifted_top1``.

    Targets with the same classes in the same order, such as the corruptions of one test split, are
    one list of images, to which each adds: their outcomes go together. Where they are other images
    nothing is lost, since sums of independent outcomes spread as such.

    Args:
        scores: One entry per target, at least one.
        source: Classes of the source's test split, ``(m,)``, which targets may be images of.
    """
    sums: dict[tuple[str, int], NDArray[np.float64]] = {}
    lists: dict[tuple[str, int], ImageList] = {}
    groups = _grouped(scores).values()
    for group in groups:
        share = 1 / (len(groups) * len(group))
        for score in group:
            images = _images(score.shift, source, share)
            key = images.digest, images.step
            sums[key] = sums.get(key, 0.0) + share * score.correct / len(score.correct)
            lists[key] = images if key not in lists else lists[key].joined(images)
    values = np.concatenate([*sums.values()])
    return Contributions(values=len(values) * values, lists=tuple(lists.values()))


def _images(shift: Shift, source: torch.Tensor, share: float) -> ImageList:
    targets = shift.split.targets
    if shift.step and torch.equal(source[:: shift.step], targets):
        return ImageList.of(source.numpy(), share=share, step=shift.step)
    return ImageList.of(targets.numpy(), share=share)


def shift_chance_bound(shifts: Sequence[Shift], classes: int) -> float:
    """What ``shifted_top1`` of a guess stays below, but for a share of ``CHANCE_ALPHA``.

    A guess falls among the classes that a target holds, since the others are masked. Targets may be
    the same images in several corruptions, so that all are taken as right or wrong together: the
    bound is the mean of theirs, as the score is.

    Args:
        shifts: The targets.
        classes: Of the source.
    """
    groups: dict[str, list[float]] = {}
    for shift in shifts:
        held = len(shift.classes) or classes
        groups.setdefault(shift.group, []).append(guessing_bound(held, len(shift.split)))
    return fmean(fmean(bounds) for bounds in groups.values())


def group_metrics(scores: Sequence[ShiftScore]) -> dict[str, float]:
    """What published tables give of each group besides: means within it.

    Returns:
        ``shift_top5/<group>``, ``source_top1/<group>`` and ``source_top5/<group>``.
    """
    values: dict[str, float] = {}
    for name, group in _grouped(scores).items():
        values[f"shift_top5/{name}"] = fmean(score.top5 for score in group)
        values[f"source_top1/{name}"] = fmean(score.source_top1 for score in group)
        values[f"source_top5/{name}"] = fmean(score.source_top5 for score in group)
    return values


def _grouped(scores: Sequence[ShiftScore]) -> dict[str, list[ShiftScore]]:
    groups: dict[str, list[ShiftScore]] = {}
    for score in scores:
        groups.setdefault(score.shift.group, []).append(score)
    return groups


def expected_shifted(top1: float, test_size: int, baseline: RobustnessBaseline) -> float:
    """Accuracy under shift that is usual at an accuracy on the source.

    Args:
        top1: Accuracy on the source.
        test_size: Images behind it; keeps 0 and 1 off the ends of the logit scale.
        baseline: The line.
    """
    return 1 / (1 + math.exp(-(baseline.slope * logit(top1, test_size) + baseline.intercept)))


def logit(share: float, count: int) -> float:
    """Log odds of a share of ``count`` samples, half a sample away from 0 and 1 at least."""
    least = 0.5 / count
    share = min(1 - least, max(least, share))
    return math.log(share / (1 - share))
