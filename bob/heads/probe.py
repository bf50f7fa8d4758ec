"""A linear probe whose regularisation is chosen on a held-out part of the train split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional

from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.datasets.subsets import held_out
from bob.heads._softmax import FINE_TOLERANCE
from bob.heads.logistic import FitRows, HeadPath, LinearHead, fit
from bob.heads.strength import LeastLoss, least_between
from bob.metrics.calibration import fit_temperature

DOUBLE_SIZE = 2**24
"""Rows times the sum of features and classes up to which the choice is made in double precision:
there it costs little, and single precision would move the last digits of a score."""

FINE_ITERATIONS = 300


@dataclass(frozen=True)
class PathPoint:
    """One value of the regularisation path.

    Attributes:
        c: Inverse regularisation strength.
        top1: Accuracy on the held-out part.
        loss: Cross-entropy on the held-out part.
        expected_loss: The same with one image more, whose class is anyone's guess; the choice is
            the C where it is least.
    """

    c: float
    top1: float
    loss: float
    expected_loss: float


@dataclass(frozen=True)
class Probe:
    """A chosen and refitted head.

    Attributes:
        head: Fitted on the whole train split at ``c``, in single precision.
        c: The chosen value; between values of the grid as a rule.
        path: Every value of the grid, ascending; empty when nothing could be held out.
        chosen: What the held-out part says of ``c``; none when nothing could be held out.
        at_edge: Whether the choice is the first or last value of the grid, and would lie beyond.
        train_loss: Cross-entropy of the head on the train split.
        temperature: What makes the held-out part most likely under the chosen value; none when
            nothing could be held out.
    """

    head: LinearHead
    c: float
    path: tuple[PathPoint, ...]
    train_loss: float
    chosen: PathPoint | None = None
    at_edge: bool = False
    temperature: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """What is recorded of fit and choice: ``train_loss``, ``c``, ``holdout_top1``."""
        chosen = {"holdout_top1": self.chosen.top1} if self.chosen else {}
        return {"train_loss": self.train_loss, "c": self.c, **chosen}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of choice and fit."""
        found = []
        if not self.path:
            found.append("no class has two train images, so nothing was held out to choose C on")
        if self.at_edge:
            found.append(f"C {self.c:g} was chosen at the edge of the grid; widen the recipe's c")
        if not self.head.converged:
            found.append(f"the probe's fit at C {self.c:g} ran out of steps before it converged")
        return tuple(found)


def fit_probe(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    values: Sequence[float],
    holdout: float,
    advance: Callable[[int], None] = lambda done: None,
    checkpoint: CaseCheckpoint | None = None,
) -> Probe:
    """Solve the path on part of the data, choose on the rest, refit on all of it.

    The choice is where the held-out part's expected loss is least. It is looked for along the grid
    first and then between its values, so that it moves with the features as little as they do: of
    two neighbours that are as good, a choice of one or the other would hang on rounding.

    Args:
        features: Float32 ``(n, d)``.
        targets: ``(n,)`` on the CPU.
        classes: Number of classes.
        values: Inverse regularisation strengths, ascending.
        holdout: Share of the data to choose on; see ``held_out``.
        advance: Receives the number of values solved.
        checkpoint: What keeps the path, so that a case that was stopped goes on along it.
    """
    choice = _choose(
        features, targets, classes, values, holdout, advance, checkpoint or CaseCheckpoint()
    )
    on_device = targets.to(features.device)
    head = fit(
        features,
        on_device,
        classes=classes,
        c=choice.c,
        init=choice.head,
        dtype=_precision(features, classes),
        tolerance=FINE_TOLERANCE,
        max_iterations=FINE_ITERATIONS,
    ).float()
    loss = float(functional.cross_entropy(head.logits(features), on_device))
    return Probe(
        head=head,
        c=choice.c,
        path=choice.path,
        train_loss=loss,
        chosen=choice.point,
        at_edge=choice.at_edge,
        temperature=choice.temperature,
    )


@dataclass(frozen=True)
class _Choice:
    """What the held-out part says; see ``Probe``.

    Attributes:
        head: Of the part that was fitted on, at ``c``.
    """

    c: float
    path: tuple[PathPoint, ...] = ()
    at_edge: bool = False
    head: LinearHead | None = None
    point: PathPoint | None = None
    temperature: float | None = None


def _choose(
    features: torch.Tensor,
    targets: torch.Tensor,
    classes: int,
    values: Sequence[float],
    holdout: float,
    advance: Callable[[int], None],
    checkpoint: CaseCheckpoint,
) -> _Choice:
    """Solve the path and choose; the middle of the values where nothing can be held out."""
    fit_rows, choose_rows = (torch.from_numpy(rows) for rows in held_out(targets, holdout))
    if not len(choose_rows):
        return _Choice(c=sorted(values)[len(values) // 2])
    part = _Part(features, targets, fit_rows, choose_rows, classes)
    path = HeadPath(part.rows, values=values)
    points: list[PathPoint] = []
    if state := checkpoint.found("path"):
        path.take_up(state)
        points += map(part.point, values, path.heads)
    with checkpoint.live("path", path.state):
        for value, head in path:
            points.append(part.point(value, head))
            advance(len(points))
            checkpoint.step()
    found = part.least(points, path.heads)
    (head,) = part.refine((found.c,), path.heads[found.nearest])
    return _Choice(
        c=found.c,
        path=tuple(points),
        at_edge=found.at_edge,
        head=head,
        point=part.point(found.c, head),
        temperature=part.temperature(head),
    )


def _precision(features: torch.Tensor, classes: int) -> torch.dtype:
    """What the choice is made in."""
    size = len(features) * (features.shape[1] + classes)
    return torch.float64 if size <= DOUBLE_SIZE else torch.float32


class _Part:
    """The rows to fit on and those to choose on.

    Attributes:
        rows: To fit the path on, in single precision.
    """

    def __init__(
        self,
        features: torch.Tensor,
        targets: torch.Tensor,
        fit_rows: torch.Tensor,
        choose_rows: torch.Tensor,
        classes: int,
    ) -> None:
        device = features.device
        known = targets[fit_rows].to(device)
        self._dtype = _precision(features, classes)
        self.rows = FitRows(features[fit_rows], known, classes=classes)
        self._unseen, self._truth = (
            features[choose_rows].to(self._dtype), targets[choose_rows].to(device)
        )  # fmt: skip

    @cached_property
    def _fine_rows(self) -> FitRows:
        """The same rows, in the precision that the choice is made in."""
        rows = self.rows
        if self._dtype == rows.features.dtype:
            return rows
        targets = rows.present[rows.targets]
        return FitRows(rows.features, targets, classes=rows.classes, dtype=self._dtype)

    def point(self, c: float, head: LinearHead) -> PathPoint:
        """What the rows to choose on say of a head."""
        logits = self._logits(head)
        losses = -logits.log_softmax(dim=1)
        count = len(losses)
        total = float(losses.gather(1, self._truth[:, None]).sum(dtype=torch.float64))
        guess = float(losses[:, self.rows.present].mean(dtype=torch.float64))
        return PathPoint(
            c=c,
            top1=float((logits.argmax(dim=1) == self._truth).float().mean()),
            loss=total / count,
            expected_loss=(total + guess) / (count + 1),
        )

    def refine(self, values: Sequence[float], init: LinearHead) -> list[LinearHead]:
        """Heads at ascending C, solved as closely as their precision allows."""
        path = HeadPath(
            self._fine_rows,
            values=values,
            init=init,
            tolerance=FINE_TOLERANCE,
            max_iterations=FINE_ITERATIONS,
        )
        return [head for _, head in path]

    def least(self, points: Sequence[PathPoint], heads: Sequence[LinearHead]) -> LeastLoss:
        """Where between the points the expected loss is least."""

        def expected(first: int, last: int) -> list[float]:
            values = [point.c for point in points[first:last]]
            refined = self.refine(values, heads[first])
            return [
                self.point(c, head).expected_loss for c, head in zip(values, refined, strict=True)
            ]

        losses = [point.expected_loss for point in points]
        return least_between([point.c for point in points], losses, expected)

    def temperature(self, head: LinearHead) -> float | None:
        """The temperature under which the rows to choose on are most likely."""
        return fit_temperature(self._logits(head), self._truth.cpu())

    def _logits(self, head: LinearHead) -> torch.Tensor:
        weight, bias = head.weight.to(self._dtype), head.bias.to(self._dtype)
        return LinearHead(weight, bias).logits(self._unseen)
