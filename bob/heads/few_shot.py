"""A probe of fixed strength for a few images, which leave nothing to choose on."""

from __future__ import annotations

import torch

from bob.heads.logistic import fit


def probe_logits(
    features: torch.Tensor, targets: torch.Tensor, test: torch.Tensor, *, classes: int, c: float
) -> torch.Tensor:
    """Logits on test of a probe of strength ``c``.

    Features are centred on the draw's mean and divided by one number, their root mean square, so
    that the same strength means the same to every backbone.

    Args:
        features: The draw's, ``(n, d)``.
        targets: Its classes, ``(n,)``.
        test: ``(m, d)``.
        classes: Number of classes.
        c: Inverse regularisation strength.
    """
    mean = features.mean(dim=0)
    scale = (features - mean).square().mean().sqrt().clamp_min(1e-12)
    head = fit((features - mean) / scale, targets.to(features.device), classes=classes, c=c)
    return head.logits((test - mean) / scale)
