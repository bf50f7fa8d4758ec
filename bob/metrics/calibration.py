"""How far a classifier's probabilities can be believed, from its per-sample outcomes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bob.case import Outcomes

BINS = 15
"""Bins of the calibration error, as in C. Guo et al. (ICML 2017)."""

TEMPERATURES = (0.02, 50.0)
"""Where a temperature is looked for."""

GRID = 41
"""Temperatures at which votes are tried first."""

Floats = NDArray[np.floating]


def calibration_metrics(outcomes: Outcomes) -> dict[str, float]:
    """What the outcomes say of the probabilities, at no further pass of the backbone.

    Returns:
        ``nll``, the mean negative log-likelihood in nats; ``brier``, summed over classes, 0 to 2;
        ``ece`` and ``ece_equal_mass``, the expected calibration error over bins of equal width and
        of equal count; ``worst_class_top1``, the accuracy on the class with the lowest one, of
        which ``worst_class`` of ``bob.artifacts.classes`` gives the name; and
        where the case had a held-out part to fit a temperature on, ``temperature`` and
        ``ece_scaled``, the error over bins of equal width behind it.
    """
    correct = outcomes.correct
    true = np.exp(outcomes.target_log_probabilities.astype(np.float64))
    metrics = {
        "nll": float(-outcomes.target_log_probabilities.astype(np.float64).mean()),
        "brier": float((1.0 - 2.0 * true + outcomes.square_sums).mean()),
        "ece": equal_width_error(outcomes.confidences, correct),
        "ece_equal_mass": equal_mass_error(outcomes.confidences, correct),
        "worst_class_top1": float(min(class_accuracies(outcomes.targets, correct).values())),
    }
    if outcomes.temperature is not None and outcomes.scaled_confidences is not None:
        metrics["temperature"] = outcomes.temperature
        metrics["ece_scaled"] = equal_width_error(outcomes.scaled_confidences, correct)
    return metrics


def equal_width_error(
    confidences: Floats, correct: NDArray[np.bool_], *, bins: int = BINS
) -> float:
    """Expected calibration error over bins of equal width.

    Args:
        confidences: Probability of the predicted class, ``(n,)``, n at least 1.
        correct: Whether it is the true one, ``(n,)``.
        bins: How many; a confidence on an edge belongs to the bin below it.

    Returns:
        Mean over samples of how far confidence and accuracy lie apart in their bin; NaN where a
        confidence is.
    """
    values = confidences.astype(np.float64)
    if not np.isfinite(values).all():
        return float("nan")
    edges = np.linspace(0.0, 1.0, bins + 1)
    return _error(
        np.clip(np.searchsorted(edges, values, side="left") - 1, 0, bins - 1), values, correct
    )


def equal_mass_error(confidences: Floats, correct: NDArray[np.bool_], *, bins: int = BINS) -> float:
    """Expected calibration error over bins of as equal a count as can be; equal ones stay together.

    Args and result are those of ``equal_width_error``.
    """
    values = confidences.astype(np.float64)
    if not np.isfinite(values).all():
        return float("nan")
    ranks = np.searchsorted(np.sort(values), values, side="left")
    return _error(ranks * bins // len(values), values, correct)


def class_accuracies(targets: NDArray[np.int64], correct: NDArray[np.bool_]) -> dict[int, float]:
    """Accuracy by class, of the classes that have a sample."""
    return {int(label): float(correct[targets == label].mean()) for label in np.unique(targets)}


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float | None:
    """The temperature that makes held-out images most likely (C. Guo et al., ICML 2017).

    The likelihood has one maximum over the logarithm's range that is looked at, since it is concave
    in the inverse temperature.

    Args:
        logits: ``(n, classes)`` of images that neither training nor the score has seen.
        targets: ``(n,)``.

    Returns:
        What to divide logits by; none without images or with logits that are not finite.
    """
    from scipy.optimize import minimize_scalar

    if not len(targets) or not bool(torch.isfinite(logits).all()):
        return None
    values = logits.double().cpu()
    labels = targets.to(torch.int64).cpu()[:, None]

    def loss(inverse: float) -> float:
        logarithms = (values * inverse).log_softmax(dim=1)
        return float(-logarithms.gather(1, labels).mean())

    low, high = TEMPERATURES
    found = minimize_scalar(
        loss, bounds=(1 / high, 1 / low), method="bounded", options={"xatol": 1e-6}
    )
    return float(1 / found.x)


def fit_vote_temperature(shares: torch.Tensor, targets: torch.Tensor) -> float | None:
    """The temperature under which votes on held-out images have the least Brier score.

    A vote gives nothing to a class without neighbours. Where that is the true one, the likelihood
    is nought at every temperature and has no maximum; the Brier score stays finite and proper.

    Args:
        shares: ``(n, classes)``, each row adding up to 1, of images that had no vote on themselves.
        targets: ``(n,)``.

    Returns:
        What to divide the logarithms of shares by; none without images or with shares that are not
        finite.
    """
    from scipy.optimize import minimize_scalar

    if not len(targets) or not bool(torch.isfinite(shares).all()):
        return None
    logarithms = shares.double().cpu().log()
    true = logarithms.gather(1, targets.to(torch.int64).cpu()[:, None])
    # classes without a vote have none at any temperature
    logarithms = logarithms.topk(int((shares > 0).sum(dim=1).max()), dim=1).values

    def brier(log_temperature: float) -> float:
        inverse = float(np.exp(-log_temperature))
        norm = (logarithms * inverse).logsumexp(dim=1, keepdim=True)
        squares = (logarithms * inverse - norm).exp().square().sum(dim=1)
        return float((1.0 - 2.0 * (true * inverse - norm).exp()[:, 0] + squares).mean())

    # The score may have several minima: the lowest of a grid first, then the best beside it.
    low, high = np.log(TEMPERATURES)
    grid = np.linspace(low, high, GRID)
    best = int(np.argmin([brier(value) for value in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(brier, bounds=around, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _error(bins: NDArray[np.intp], values: Floats, correct: NDArray[np.bool_]) -> float:
    apart = np.bincount(bins, weights=correct) - np.bincount(bins, weights=values)
    return float(np.abs(apart).sum() / len(values))
