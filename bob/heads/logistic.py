"""Multinomial logistic regression on frozen features, along a path of regularisation strengths.

The objective is scikit-learn's for ``LogisticRegression(C=c)`` with three or more classes:
``c * sum_i CE_i + 0.5 * ||W||^2``, intercept not penalised. Of two classes scikit-learn fits one
vector, the difference of the two here; its ``C = 2 * c`` is then the same head.

Source: the values of C are those of DINOv2's evaluation (``dinov2/eval/log_regression.py``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from bob.checkpoints.encoding import State
from bob.errors import BobError
from bob.heads._softmax import FIT_TOLERANCE, MAX_ITERATIONS, PATH_TOLERANCE, Descent, Problem
from bob.protocols.linear_probe import dinov2_grid

C_VALUES = dinov2_grid()
"""Inverse penalties, ascending, per summed (not averaged) cross-entropy: logspace(-6, 5, 45)."""

# Logits over the trained classes average to 0, so that their largest is above this whatever the
# features are; infinity would be exact, and make losses and metrics NaN.
ABSENT_LOGIT = -50.0

# Distance between the logarithms of C on the way to the one that is asked for, and their most.
STRIDE = math.log(10) / 2
MOST_STRIDES = 30


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier.

    Attributes:
        weight: ``(classes, d)``, in the precision it was fitted in.
        bias: ``(classes,)``, likewise.
        converged: Whether the fit came as near to the least objective as it was asked to, or as
            rounding lets it.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    converged: bool = True

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Scores of ``(n, d)`` features before softmax, ``(n, classes)``."""
        return torch.addmm(self.bias, features, self.weight.T)

    def float(self) -> LinearHead:
        """The same head in single precision."""
        return LinearHead(self.weight.float(), self.bias.float(), self.converged)


def fit(
    features: torch.Tensor,
    targets: torch.Tensor,
    *,
    classes: int,
    c: float,
    init: LinearHead | None = None,
    tolerance: float = FIT_TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    dtype: torch.dtype = torch.float32,
) -> LinearHead:
    """Fit one head.

    Where steps from zero weights run out before the least objective is near, as on separable rows
    at a large C, smaller values of C lead to the one that is asked for.

    Args:
        features: ``(n, d)``, on any device.
        targets: Class indices, int64, ``(n,)``.
        classes: Number of classes. One without samples gets weight 0 and is never predicted.
        c: Inverse penalty, above 0.
        init: Where to start, such as the head of a part of the rows.
        tolerance: Share of the objective that its estimated excess over the least may be.
        max_iterations: Bound on quasi-Newton steps at each value of C, met only where C is so large
            that the penalty hardly matters; ``LinearHead.converged`` tells.
        dtype: What to compute in, float32 or float64.

    Raises:
        BobError: ``kind="features"`` when features or targets cannot be fitted.
        ValueError: When ``c`` is not positive.
    """
    path = _Path(FitRows(features, targets, classes=classes, dtype=dtype), init, max_iterations)
    head = path.head(c, tolerance)
    if init is None and not head.converged:
        path.approach(c)
        head = path.head(c, tolerance)
    return head


class HeadPath:
    """A head for each C, each from where the ones before lead; it can be left and taken up again.

    Iterating fits the values that are left, each when it is asked for, and gives C and head.

    Args:
        rows: What to fit on; several paths may share it.
        values: Inverse penalties, above 0 and strictly ascending.
        init: Where to start at the first value; zero weights without it.
        tolerance: As for `fit`, at each value.
        max_iterations: As for `fit`, at each value.

    Attributes:
        heads: Those of the first values, as many as are fitted.

    Raises:
        BobError: ``kind="features"`` when the rows have no axes that a solver finds.
        ValueError: When ``values`` are not positive and ascending.
    """

    def __init__(
        self,
        rows: FitRows,
        *,
        values: Sequence[float] = C_VALUES,
        init: LinearHead | None = None,
        tolerance: float = PATH_TOLERANCE,
        max_iterations: int = MAX_ITERATIONS,
    ) -> None:
        if any(later <= earlier for earlier, later in itertools.pairwise(values)):
            raise ValueError(f"values must ascend strictly: {list(values)}")
        if not all(value > 0 for value in values):
            raise ValueError(f"C must be above 0: {list(values)}")
        self._values, self._tolerance = tuple(values), tolerance
        self._device = rows.features.device
        self._path = _Path(rows, init, max_iterations)
        self.heads: list[LinearHead] = []

    def __iter__(self) -> Iterator[tuple[float, LinearHead]]:
        """Fit the values that are left; C and head of each."""
        for c in self._values[len(self.heads) :]:
            self.heads.append(self._path.head(c, self._tolerance))
            yield c, self.heads[-1]

    def state(self) -> State:
        """What the rest of the path rests on."""
        heads = [[head.weight, head.bias, head.converged] for head in self.heads]
        return {"heads": heads, "descent": self._path.state()}

    def take_up(self, state: State) -> None:
        """Go on where another path of the same rows and values stood."""
        self.heads = [
            LinearHead(weight.to(self._device), bias.to(self._device), converged)
            for weight, bias, converged in state["heads"]
        ]
        self._path.take_up(state["descent"])


class FitRows:
    """Checked input, reduced to the classes that occur, and what is computed of it once.

    Args:
        features: As for `fit`.
        targets: As for `fit`.
        classes: As for `fit`.
        dtype: As for `fit`.

    Attributes:
        features: ``(n, d)`` float32 or float64.
        targets: ``(n,)``, indices into ``present``.
        present: Classes that occur, ascending.
        classes: Number of all classes.

    Raises:
        BobError: ``kind="features"`` when features or targets cannot be fitted.
    """

    def __init__(
        self,
        features: torch.Tensor,
        targets: torch.Tensor,
        *,
        classes: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if features.ndim != 2 or targets.shape != features.shape[:1] or not len(features):
            raise BobError(
                f"Features of shape {tuple(features.shape)} and targets of shape "
                f"{tuple(targets.shape)} cannot be fitted: (n, d) and (n,) with n above 0 are "
                "expected.",
                kind="features",
            )
        self.features = features.detach().to(dtype)
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

    @cached_property
    def problem(self) -> Problem:
        """The cross-entropy on them; of two classes or more.

        Raises:
            BobError: ``kind="features"`` when no solver finds the axes of the rows.
        """
        return Problem(self.features, self.targets, len(self.present))

    def head(self, weight: torch.Tensor, bias: torch.Tensor, *, converged: bool) -> LinearHead:
        """Head over all classes from ``(present, d)`` and ``(present,)``."""
        full = weight.new_zeros(self.classes, weight.shape[1])
        full[self.present] = weight
        biases = weight.new_full((self.classes,), ABSENT_LOGIT)
        biases[self.present] = bias.to(weight.dtype)
        return LinearHead(full, biases, converged)


class _Path:
    """Heads of the same rows at ascending C, each from where the ones before lead."""

    def __init__(self, rows: FitRows, init: LinearHead | None, steps: int) -> None:
        self._rows = rows
        self._steps = steps
        present, width = len(rows.present), rows.features.shape[1]
        self._only: LinearHead | None = None
        if present == 1:
            idle = rows.features.new_zeros(1, width)
            self._only = rows.head(idle, idle.new_zeros(1), converged=True)
            return
        self._problem = rows.problem
        self._descent = Descent(self._problem, self._start(init))

    def approach(self, c: float) -> None:
        """Start anew with smaller values, the first small enough to leave weights near zero."""
        problem = self._problem
        self._descent = Descent(problem, self._start(None))
        strength = c * problem.spectrum.scale**2
        curvature = float(problem.moments[:-1].max()) * len(problem.rows)
        first = 1 / curvature if curvature > 0 else math.inf
        if not first < strength < math.inf:
            return
        reach = math.log(strength / first)
        count = min(math.ceil(reach / STRIDE), MOST_STRIDES)
        for step in range(count):
            value = first * math.exp(reach * step / count)
            self._descent.solve(value, tolerance=PATH_TOLERANCE, max_iterations=self._steps)

    def head(self, c: float, tolerance: float) -> LinearHead:
        """The head at ``c``."""
        if not c > 0:
            raise ValueError(f"C must be above 0: {c}")
        if self._only is not None:
            return self._only
        axes, descent = self._problem.spectrum, self._descent
        # Features divided by a scale have weights multiplied by it.
        converged = descent.solve(
            c * axes.scale**2, tolerance=tolerance, max_iterations=self._steps
        )
        # Shifts common to all classes change no probability; the least penalty has none.
        centred = descent.parameters - descent.parameters.mean(1, keepdim=True)
        weight = (axes.basis @ centred[:-1]).T.contiguous()
        bias = centred[-1].double() - weight.double() @ axes.mean.double()
        return self._rows.head(weight / axes.scale, bias, converged=converged)

    def state(self) -> State:
        """Of the descent, so far."""
        return {} if self._only is not None else self._descent.state()

    def take_up(self, state: State) -> None:
        """Go on where another descent over the same rows stood."""
        if self._only is None:
            self._descent.take_up(state)

    def _start(self, init: LinearHead | None) -> torch.Tensor:
        """``(r + 1, present)`` parameters in the problem's basis."""
        rows, axes = self._rows, self._problem.spectrum
        start = rows.features.new_zeros(axes.basis.shape[1] + 1, len(rows.present))
        if init is None:
            return start
        weight = init.weight[rows.present].to(start) * axes.scale
        start[:-1] = (weight @ axes.basis).T
        start[-1] = init.bias[rows.present].to(start) + weight @ axes.mean
        # From a class that init has not seen there is no slope to follow at its own bias.
        unseen = init.bias[rows.present].to(start) == ABSENT_LOGIT
        if unseen.any() and not unseen.all():
            start[-1, unseen] = start[-1, ~unseen].min()
        return start - start.mean(1, keepdim=True)
