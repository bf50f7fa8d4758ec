"""A linear probe whose regularisation is chosen on a held-out part of the train split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from bob.datasets.subsets import held_out
from bob.heads.logistic import LinearHead, fit, fit_path
from bob.metrics.calibration import fit_temperature


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
        temperature: What makes the held-out part most likely under the chosen value; none when
            nothing could be held out.
    """

    head: LinearHead
    c: float
    path: tuple[PathPoint, ...]
    train_loss: float
    temperature: float | None = None

    @property
    def at_edge(self) -> bool:
        """Whether the first or last value of the grid was more accurate than all others."""
        highest = max((point.top1 for point in self.path), default=math.nan)
        best = [point.c for point in self.path if point.top1 == highest]
        return len(self.path) > 1 and best in ([self.path[0].c], [self.path[-1].c])

    @property
    def chosen(self) -> PathPoint | None:
        """The chosen point of the path; none when nothing was held out."""
        return next((point for point in self.path if point.c == self.c), None)

    @property
    def metrics(self) -> dict[str, float]:
        """What is recorded of fit and choice: ``train_loss``, ``c``, ``holdout_top1``."""
        chosen = {"holdout_top1": self.chosen.top1} if self.chosen else {}
        return {"train_loss": self.train_loss, "c": self.c, **chosen}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of the choice."""
        if not self.path:
            return ("no class has two train images, so nothing was held out to choose C on",)
        if self.at_edge:
            return (f"C {self.c:g} was chosen at the edge of the grid; widen the recipe's c",)
        return ()


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

    The choice is the middle one of the values that get at most one held-out image less right than
    the best. Where the path is flat, accuracies differ by single images, which rounding moves: its
    middle stays, and lies far from too much penalty and from too little.

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
        least = max(point.top1 for point in points) - 1.5 / len(choose_rows)
        near = sorted(point.c for point in points if point.top1 > least)
        best = near[(len(near) - 1) // 2]
    else:
        best = sorted(values)[len(values) // 2]
    chosen = heads.get(best)
    temperature = None
    if chosen is not None:
        temperature = fit_temperature(chosen.logits(features[choose_rows]), targets[choose_rows])
    head = fit(features, on_device, classes=classes, c=best, init=chosen)
    loss = float(functional.cross_entropy(head.logits(features), on_device))
    return Probe(head=head, c=best, path=tuple(points), train_loss=loss, temperature=temperature)
