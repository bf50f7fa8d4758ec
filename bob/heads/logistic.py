"""Multinomial logistic regression on frozen features, along a path of regularisation strengths.

The objective is scikit-learn's for ``LogisticRegression(C=c)`` with three or more classes:
``c * sum_i CE_i + 0.5 * ||W||^2``, intercept not penalised. Of two classes scikit-learn fits one
vector, the difference of the two here; its ``C = 2 * c`` is then the same head.

Source: the values of C are those of DINOv2's evaluation (``dinov2/eval/log_regression.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bob.errors import BobError
from bob.heads._softmax import FIT_TOLERANCE, MAX_ITERATIONS, PATH_TOLERANCE, Descent, Problem
from bob.protocols.linear_probe import dinov2_grid

C_VALUES = dinov2_grid()
"""Inverse penalties, ascending, per summed (not averaged) cross-entropy: logspace(-6, 5, 45)."""

# Logits over the trained classes average to 0, so that their largest is above this whatever the
# features are; infinity would be exact, and make losses and metrics NaN.
ABSENT_LOGIT = -50.0


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier.

    Attributes:
        weight: ``(classes, d)`` float32.
        bias: ``(classes,)`` float32.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Scores of ``(n, d)`` features before softmax, ``(n, classes)``."""
        return torch.addmm(self.bias, features, self.weight.T)


def fit(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    c: float,
    init: LinearHead | None = None,
    tolerance: float = FIT_TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> LinearHead:
    """Fit one head.

    Args:
        features: ``(n, d)``, on any device; computed on in float32.
        targets: Class indices, int64, ``(n,)``.
        classes: Number of classes. One without samples gets weight 0 and is never predicted.
        c: Inverse penalty, above 0.
        init: Where to start, such as the head of a part of the rows.
        tolerance: Share of the objective that its estimated excess over the least may be.
        max_iterations: Bound on quasi-Newton steps, met only where C is so large that the penalty
            hardly matters.

    Raises:
        BobError: ``kind="features"`` when features or targets cannot be fitted.
        ValueError: When ``c`` is not positive.
    """
    path = _path(
        _Rows(features, targets, classes), (c,), init, tolerance=tolerance, steps=max_iterations
    )
    return next(path)[1]


def fit_path(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    values: Sequence[float] = C_VALUES,
    tolerance: float = PATH_TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> Iterator[tuple[float, LinearHead]]:
    """Fit a head for each C, each from where the ones before lead.

    Args:
        features: As for `fit`.
        targets: As for `fit`.
        classes: As for `fit`.
        values: Inverse penalties, above 0 and strictly ascending.
        tolerance: As for `fit`, at each value.
        max_iterations: As for `fit`, at each value.

    Returns:
        C and its head, in the order of ``values``, each fitted when it is asked for.

    Raises:
        BobError: ``kind="features"`` when features or targets cannot be fitted.
        ValueError: When ``values`` are not positive and ascending.
    """
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"values must ascend strictly: {list(values)}")
    rows = _Rows(features, targets, classes)
    return _path(rows, values, None, tolerance=tolerance, steps=max_iterations)


class _Rows:
    """Checked input, reduced to the classes that occur.

    Attributes:
        features: ``(n, d)`` float32.
        targets: ``(n,)``, indices into ``present``.
        present: Classes that occur, ascending.
        classes: Number of all classes.
    """

    def __init__(self, features: torch.Tensor, targets: torch.Tensor, classes: int) -> None:
        if features.ndim != 2 or targets.shape != features.shape[:1] or not len(features):
            raise BobError(
                f"Features of shape {tuple(features.shape)} and targets of shape "
                f"{tuple(targets.shape)} cannot be fitted: (n, d) and (n,) with n above 0 are "
                "expected.",
                kind="features",
            )
        self.features = features.detach().float()
        wrong = ~torch.isfinite(self.features).all(dim=1)
        if wrong.any():
            raise BobError(
                f"{int(wrong.sum())} of {len(features)} feature rows hold NaN or infinity, the "
                f"first is row {int(wrong.nonzero()[0])}: the backbone diverged or its precision "
                "is too low.",
                kind="features",
            )
        lowest, highest = int(targets.min()), int(targets.max())
        if lowest < 0 or highest >= classes:
            raise BobError(
                f"Targets run from {lowest} to {highest}; {classes} classes allow 0 to "
                f"{classes - 1}.",
                kind="features",
            )
        self.present, self.targets = torch.unique(
            targets.to(features.device, torch.int64), return_inverse=True
        )
        self.classes = classes

    def head(self, weight: torch.Tensor, bias: torch.Tensor) -> LinearHead:
        """Head over all classes from ``(present, d)`` and ``(present,)``."""
        full = weight.new_zeros(self.classes, weight.shape[1])
        full[self.present] = weight
        biases = weight.new_full((self.classes,), ABSENT_LOGIT)
        biases[self.present] = bias.to(weight.dtype)
        return LinearHead(full, biases)


def _path(
    rows: _Rows,
    values: Sequence[float],
    init: LinearHead | None,
    *,
    tolerance: float,
    steps: int,
) -> Iterator[tuple[float, LinearHead]]:
    if not all(value > 0 for value in values):
        raise ValueError(f"C must be above 0: {list(values)}")
    present, width = len(rows.present), rows.features.shape[1]
    if present == 1:
        only = rows.head(rows.features.new_zeros(1, width), rows.features.new_zeros(1))
        return iter([(c, only) for c in values])
    problem = Problem(rows.features, rows.targets, present)
    axes = problem.spectrum
    start = rows.features.new_zeros(axes.basis.shape[1] + 1, present)
    if init is not None:
        weight = init.weight[rows.present].to(start) * axes.scale
        start[:-1] = (weight @ axes.basis).T
        start[-1] = init.bias[rows.present].to(start) + weight @ axes.mean
        # From a class that init has not seen there is no slope to follow at its own bias.
        unseen = init.bias[rows.present].to(start) == ABSENT_LOGIT
        if unseen.any() and not unseen.all():
            start[-1, unseen] = start[-1, ~unseen].min()
        start -= start.mean(1, keepdim=True)
    descent = Descent(problem, start)

    def heads() -> Iterator[tuple[float, LinearHead]]:
        for c in values:
            # Features divided by a scale have weights multiplied by it.
            strength = c * axes.scale**2
            descent.solve(strength, tolerance=tolerance, max_iterations=steps)
            # Shifts common to all classes change no probability; the least penalty has none.
            centred = descent.parameters - descent.parameters.mean(1, keepdim=True)
            weight = (axes.basis @ centred[:-1]).T.contiguous()
            bias = centred[-1].double() - weight.double() @ axes.mean.double()
            yield c, rows.head(weight / axes.scale, bias)

    return heads()
