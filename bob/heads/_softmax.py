"""Minimiser behind `bob.heads.logistic`: preconditioned L-BFGS along a path of penalties.

Works on ``F(W) = sum_i CE_i + 0.5 * penalty * ||W||^2`` with ``penalty = 1 / C``. Parameters are
``(d + 1, classes)``; the last row is the intercept, which is not penalised.

Sources: Böhning, "Multinomial logistic regression algorithm" (1992) for the curvature ``(diag p -
p p') ⊗ x x'``, averaged here over the rows; Nocedal and Wright, "Numerical Optimization" (2006),
section 7.2, for the compact form of L-BFGS.
"""

from __future__ import annotations

import math

import torch

from bob.checkpoints.encoding import State
from bob.heads._spectrum import eigen, spectrum

Pair = tuple[torch.Tensor, torch.Tensor]
"""A step and the change it made to the gradient of the cross-entropy, ``(d + 1, classes)``."""

# Of the estimated excess over the least objective, as a share of it. A fit on its own estimates too
# low more often: it has not met as many directions as one late on a path.
PATH_TOLERANCE = 6e-6
FIT_TOLERANCE = 3e-7
# Losses on other rows move as the root of the excess does.
FINE_TOLERANCE = 1e-8
MAX_ITERATIONS = 100
MEMORY = 40
# Pairs beyond MEMORY that one value may hold, and the factor by which the scale may be off.
ROOM = 16
DRIFT = 1.3
# Losses and slopes are sums of rounded terms; per row they are not known better than this.
ROW_NOISE = {torch.float32: 1e-8, torch.float64: 1e-16}
# Shares of the largest curvature below this are rounding: a step there would be noise over penalty.
LEAST_CURVATURE = 1e-10


class Problem:
    """Rows in the eigenbasis of their covariance, and the cross-entropy on them.

    Args:
        features: ``(n, d)`` float32 or float64, finite.
        targets: ``(n,)`` int64, every class in ``range(classes)`` present.
        classes: Number of classes, at least 2.

    Raises:
        BobError: ``kind="features"`` when the features' covariance has no eigenbasis that is found.
    """

    def __init__(self, features: torch.Tensor, targets: torch.Tensor, classes: int) -> None:
        self.spectrum = spectrum(features)
        self.rows = self.spectrum.rows
        variances = self.spectrum.variances
        # The intercept is a feature that is 1 everywhere.
        self.moments = torch.cat([variances, variances.new_ones(1)]).to(features.dtype)
        self.targets = targets[None]
        self.classes = classes
        # Classes by rows: BLAS is a sixth faster at it than at rows by classes.
        self.residual = features.new_empty(classes, len(features))

    def logits(self, parameters: torch.Tensor, out: torch.Tensor) -> None:
        """Write ``(classes, n)`` logits to ``out``; linear in ``parameters``."""
        torch.addmm(parameters[-1][:, None], parameters[:-1].T, self.rows.T, out=out)

    def loss(self, logits: torch.Tensor) -> float:
        """Summed cross-entropy; leaves softmax minus one-hot in ``residual``."""
        torch.log_softmax(logits, 0, out=self.residual)
        true = self.residual.gather(0, self.targets)
        # 1 - p loses every digit where p is nearly 1, which is most rows at a large C.
        self.residual.exp_().scatter_(0, self.targets, torch.expm1(true))
        return -float(true.sum(dtype=torch.float64))

    def gradient(self) -> torch.Tensor:
        """``(d + 1, classes)`` gradient of the cross-entropy that ``loss`` was last asked for."""
        out = self.residual.new_empty(self.rows.shape[1] + 1, self.classes)
        # Of few classes, both factors transposed cost BLAS up to 25 times as much.
        out[:-1] = (self.residual @ self.rows).T
        torch.sum(self.residual, 1, out=out[-1])
        return out

    def class_curvature(self) -> torch.Tensor:
        """``(classes, classes)`` sum over rows of ``diag p - p p'``, from ``residual``."""
        probabilities = self.residual
        true = probabilities.gather(0, self.targets)
        probabilities.scatter_(0, self.targets, true + 1)
        curvature = torch.diag(probabilities.sum(1)) - probabilities @ probabilities.T
        probabilities.scatter_(0, self.targets, true)
        return curvature


class Descent:
    """State carried along ascending C: parameters, their logits and curvature pairs.

    A pair holds the change of the cross-entropy's gradient alone. The penalty's part is known, so
    that pairs measured at one C are exact at every other.

    Args:
        problem: What is minimised.
        start: ``(d + 1, classes)`` in the problem's basis.
    """

    def __init__(self, problem: Problem, start: torch.Tensor) -> None:
        self.problem = problem
        self.parameters = start
        self.logits = torch.empty_like(problem.residual)
        self._along = torch.empty_like(self.logits)
        self._trial = torch.empty_like(self.logits)
        self._pairs: list[Pair] = []
        self._solved: list[tuple[float, torch.Tensor, torch.Tensor]] = []

    def state(self) -> State:
        """What the next value starts from."""
        return {"parameters": self.parameters, "pairs": self._pairs, "solved": self._solved}

    def take_up(self, state: State) -> None:
        """Start the next value from where another descent stood."""
        here = self.parameters.device
        self.parameters = state["parameters"].to(here)
        self._pairs = [(step.to(here), change.to(here)) for step, change in state["pairs"]]
        self._solved = [
            (log_c, parameters.to(here), gradient.to(here))
            for log_c, parameters, gradient in state["solved"]
        ]

    def solve(self, c: float, *, tolerance: float, max_iterations: int) -> bool:
        """Minimise at ``c`` from where the last values lead.

        Returns:
            Whether half the squared quasi-Newton decrement, an estimate of the distance to the
            least objective, fell below ``tolerance`` of the objective (or what rounding hides).
        """
        problem, penalty = self.problem, 1 / c
        self._extrapolate(c)
        problem.logits(self.parameters, self.logits)
        cross_entropy = problem.loss(self.logits)
        gradient = problem.gradient()
        if self._solved:
            _, parameters, before = self._solved[-1]
            self._remember(self.parameters - parameters, gradient - before)
        model = _Model(problem, penalty, self._pairs)
        noise = ROW_NOISE[self.logits.dtype] * self.logits.shape[1]
        converged = False
        for _ in range(max_iterations + 1):
            total = gradient.clone()
            total[:-1].add_(self.parameters[:-1], alpha=penalty)
            direction, slope = model.direction(total)
            weights = self.parameters[:-1]
            value = cross_entropy + penalty / 2 * _dot(weights, weights)
            converged = -slope / 2 <= tolerance * value + 0.1 * noise
            if converged:
                break
            accepted = self._search(direction, penalty, value, slope, noise)
            if accepted is None:
                break
            step, cross_entropy = accepted
            direction.mul_(step)
            after = problem.gradient()
            if self._remember(direction, after - gradient):
                model.append(self._pairs[-1:])
            gradient = after
            self.parameters = self.parameters + direction
            self.logits, self._trial = self._trial, self.logits
        self._solved = [*self._solved[-1:], (math.log(c), self.parameters, gradient)]
        return converged

    def _extrapolate(self, c: float) -> None:
        """Start where the line through the last two solutions over log C leads."""
        if len(self._solved) == 2:
            (earlier, first, _), (later, second, _) = self._solved
            reach = min((math.log(c) - later) / (later - earlier), 1.5)
            self.parameters = second + reach * (second - first)

    def _remember(self, step: torch.Tensor, change: torch.Tensor) -> bool:
        # Rounding can make a short step look as if the curvature were negative.
        if _dot(step, change) <= 0:
            return False
        self._pairs.append((step, change))
        del self._pairs[:-MEMORY]
        return True

    def _search(
        self, direction: torch.Tensor, penalty: float, value: float, slope: float, noise: float
    ) -> tuple[float, float] | None:
        """Step to where the slope has at least halved and the objective has not risen.

        Trials combine stored logits: only the first matrix product is paid for.

        Returns:
            Step and its cross-entropy, with its logits in ``_trial`` and the problem's residual
            to match; None when rounding hides any descent.
        """
        problem = self.problem
        weights, change = self.parameters[:-1], direction[:-1]
        norm, cross, square = _dot(weights, weights), _dot(weights, change), _dot(change, change)
        problem.logits(direction, self._along)
        step, low, low_slope = 1.0, 0.0, slope
        high = high_slope = math.inf
        for _ in range(12):
            torch.add(self.logits, self._along, alpha=step, out=self._trial)
            loss = problem.loss(self._trial)
            here = loss + penalty / 2 * (norm + 2 * step * cross + step * step * square)
            here_slope = _dot(problem.residual, self._along) + penalty * (cross + step * square)
            falls = here <= value + noise
            if falls and abs(here_slope) <= 0.5 * abs(slope):
                return step, loss
            if here_slope < 0 and falls:
                low, low_slope = step, here_slope
                if high == math.inf:
                    step *= 2
                    continue
            else:
                high, high_slope = step, max(here_slope, 0.0)
            share = low_slope / (low_slope - high_slope) if math.isfinite(high_slope) else 0.1
            step = low + (high - low) * min(max(share, 0.1), 0.9)
        return None


class _Model:
    """Quadratic model of the objective at one penalty: preconditioner and curvature pairs.

    Works in the eigenbasis of the classes' curvature, where the preconditioner is diagonal. The
    compact form needs a dozen parallel operations where the two loops need hundreds; each of them
    waits for every thread, which is slow on a busy machine.
    """

    def __init__(self, problem: Problem, penalty: float, pairs: list[Pair]) -> None:
        eigenvalues, basis = eigen(problem.class_curvature().double())
        scale = eigenvalues.clamp_min(0).to(problem.moments.dtype)
        self._basis = basis.to(problem.moments.dtype)
        curvature = problem.moments[:, None] * scale
        # No penalty bounds the intercept's shift common to all classes, which has no effect.
        curvature[-1].clamp_min_(1e-3 * float(scale[-1]) + 1e-12)
        self._curvature = curvature.view(-1)
        self._penalties = torch.full_like(curvature, penalty)
        self._penalties[-1] = 0
        self._penalties = self._penalties.view(-1)
        self._floor = torch.zeros_like(curvature)
        self._floor[:-1] = max(LEAST_CURVATURE * float(curvature[:-1].max()), 1e-30)
        self._floor = self._floor.view(-1)
        room = MEMORY + ROOM
        self._steps, self._changes, self._smoothed = curvature.new_empty(3, room, curvature.numel())
        self._products, self._inner = eigenvalues.new_empty(2, room, room)
        self._count = 0
        self._divisor = self._divided(1.0)
        self._scale = 1.0
        if pairs:
            self.append(pairs)

    def append(self, pairs: list[Pair]) -> None:
        """Take in curvature pairs of the cross-entropy, the latest last."""
        if self._count + len(pairs) > len(self._steps):
            self._forget()
        start, self._count = self._count, self._count + len(pairs)
        new, known = slice(start, self._count), slice(self._count)
        for row, (step, change) in enumerate(pairs, start):
            torch.mm(step, self._basis, out=self._steps[row].view_as(step))
            torch.mm(change, self._basis, out=self._changes[row].view_as(change))
        self._changes[new].addcmul_(self._penalties, self._steps[new])
        self._products[known, new] = (self._steps[known] @ self._changes[new].T).double()
        self._products[new, known] = (self._steps[new] @ self._changes[known].T).double()
        scale = self._shortfall()
        if not 1 / DRIFT < scale / self._scale < DRIFT:
            self._scale, new = scale, known
            self._divisor = self._divided(scale)
        torch.div(self._changes[new], self._divisor, out=self._smoothed[new])
        inner = (self._changes[known] @ self._smoothed[new].T).double()
        self._inner[known, new], self._inner[new, known] = inner, inner.T

    def direction(self, gradient: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Quasi-Newton step, as fresh ``(d + 1, classes)``, and the slope along it."""
        flat = (gradient @ self._basis).view(-1)
        plain = flat / self._divisor
        known = slice(self._count)
        steps, smoothed = self._steps[known], self._smoothed[known]
        products, inner = self._products[known, known], self._inner[known, known]
        upper = products.triu()
        first = (steps @ flat).double()[:, None]
        second = (smoothed @ flat).double()[:, None]
        lead = torch.linalg.solve_triangular(upper, first, upper=True)
        right = products.diagonal()[:, None] * lead + inner @ lead - second
        trail = torch.linalg.solve_triangular(upper.T, right, upper=False)
        step = plain + trail[:, 0].to(flat) @ steps - lead[:, 0].to(flat) @ smoothed
        slope = -_dot(step, flat)
        if not slope < 0:
            # Rounding can make nearly parallel pairs lead uphill.
            step, slope = plain, -_dot(plain, flat)
        return (step.view_as(gradient) @ self._basis.T).neg_(), slope

    def _divided(self, scale: float) -> torch.Tensor:
        """Diagonal of the preconditioner at a scale of the curvature."""
        return (self._curvature * scale + self._penalties).maximum(self._floor)

    def _shortfall(self) -> float:
        """How far the averaged curvature falls short of that met by the latest steps."""
        latest = slice(max(self._count - 3, 0), self._count)
        changes = self._changes[latest]
        smoothed = (changes.square() / self._divided(1.0)).sum(1)
        ratio = float((self._products[latest, latest].diagonal() / smoothed).mean())
        return min(max(1 / ratio, 0.1), 1e4)

    def _forget(self) -> None:
        old, kept = slice(self._count - MEMORY, self._count), slice(MEMORY)
        for rows in (self._steps, self._changes, self._smoothed):
            rows[kept] = rows[old].clone()
        for table in (self._products, self._inner):
            table[kept, kept] = table[old, old].clone()
        self._count = MEMORY


def _dot(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(torch.dot(left.reshape(-1), right.reshape(-1)))
