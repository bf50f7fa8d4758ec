"""A linear probe whose regularisation is chosen on a held-out part of the train split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from bob.datasets.subsets import held_out
from bob.heads.logistic import LinearHead, fit, fit_path


@dataclass(frozen=True)
class PathPoint:
    """One value of the regularisation path.

    Attributes:
        c: Inverse regularisation strength.
        top1: Accuracy on the held-out part.
        loss: Cross-entropy on the held-out part.
    """

    c: float
    top1: float
    loss: float


@dataclass(frozen=True)
class Probe:
    """A chosen and refitted head.

    Attributes:
        head: Fitted on the whole train split at ``c``.
        c: The chosen value.
        path: Every value of the grid, ascending; empty when nothing could be held out.
        train_loss: Cross-entropy of the head on the train split.
    """

    head: LinearHead
    c: float
    path: tuple[PathPoint, ...]
    train_loss: float

    @property
    def at_edge(self) -> bool:
        """Whether the first or last value of the grid was more accurate than all others."""
        best = [point.c for point in self.path if point.top1 == self.best_top1]
        return len(self.path) > 1 and best in ([self.path[0].c], [self.path[-1].c])

    @property
    def best_top1(self) -> float:
        """Accuracy on the held-out part at the chosen value; NaN when nothing was held out."""
        return max((point.top1 for point in self.path), default=math.nan)


def fit_probe(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    values: Sequence[float],
    holdout: float,
    advance: Callable[[int], None] = lambda done: None,
) -> Probe:
    """Solve the path on part of the data, choose on the rest, refit on all of it.

    The choice is the highest accuracy; among equals the lowest loss.

    Args:
        features: Float32 ``(n, d)``.
        targets: ``(n,)`` on the CPU.
        classes: Number of classes.
        values: Inverse regularisation strengths, ascending.
        holdout: Share of the data to choose on; see ``held_out``.
        advance: Receives the number of values solved.
    """
    fit_rows, choose_rows = (torch.from_numpy(rows) for rows in held_out(targets, holdout))
    on_device = targets.to(features.device)
    points: list[PathPoint] = []
    heads: dict[float, LinearHead] = {}
    if len(choose_rows):
        unseen, truth = features[choose_rows], on_device[choose_rows]
        known = features[fit_rows], on_device[fit_rows]
        for c, head in fit_path(*known, classes=classes, values=values):
            logits = head.logits(unseen)
            points.append(
                PathPoint(
                    c=c,
                    top1=float((logits.argmax(dim=1) == truth).float().mean()),
                    loss=float(functional.cross_entropy(logits, truth)),
                )
            )
            heads[c] = head
            advance(len(points))
        best = max(points, key=lambda point: (point.top1, -point.loss, -point.c)).c
    else:
        best = sorted(values)[len(values) // 2]
    head = fit(features, on_device, classes=classes, c=best, init=heads.get(best))
    loss = float(functional.cross_entropy(head.logits(features), on_device))
    return Probe(head=head, c=best, path=tuple(points), train_loss=loss)
