"""A probe of fixed strength for a few images, which leave nothing to choose on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bob.heads.logistic import LinearHead, fit


@dataclass(frozen=True)
class FewShotProbe:
    """A linear head on features that are centred and scaled.

    Attributes:
        head: The head.
        mean: What is subtracted from features, ``(d,)``.
        scale: What they are divided by then, a scalar.
    """

    head: LinearHead
    mean: torch.Tensor
    scale: torch.Tensor

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Scores of ``(n, d)`` features before softmax, ``(n, classes)``."""
        return self.head.logits((features - self.mean) / self.scale)


def fit_few(
    features: torch.Tensor, targets: torch.Tensor, *, classes: int, c: float
) -> FewShotProbe:
    """Fit a probe of strength ``c``.

    Features are centred on the draw's mean and divided by one number, their root mean square, so
    that the same strength means the same to every backbone.

    Args:
        features: The draw's, ``(n, d)``.
        targets: Its classes, ``(n,)``.
        classes: Number of classes.
        c: Inverse regularisation strength.
    """
    mean, scale = _moments(features)
    head = fit((features - mean) / scale, targets.to(features.device), classes=classes, c=c)
    return FewShotProbe(head, mean, scale)


def _moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = features.mean(dim=0)
    scale = (features - mean).square().mean().sqrt()
    if not 1e-12 < float(scale) < torch.inf:
        # Squares of tiny or huge features are lost in single precision.
        exact = features.double()
        mean = exact.mean(dim=0)
        scale = (exact - mean).square().mean().sqrt()
        # Constant features have nothing to scale, and what single precision rounds off is no scale.
        lost = torch.finfo(features.dtype).eps * float(exact.abs().amax())
        scale = scale if float(scale) > lost else torch.ones_like(scale)
        mean, scale = mean.to(features.dtype), scale.to(features.dtype)
    return mean, scale
