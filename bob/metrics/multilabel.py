"""Loss and scores of images that may show any number of labels; NaN in targets is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import nn
from torch.nn import functional
from torchmetrics.functional.classification.auroc import binary_auroc

from bob.errors import BobError
from bob.protocols.chance import CHANCE_ALPHA


class KnownLabelsLoss(nn.Module):
    """Binary cross-entropy of logits, the mean over labels that are known."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits and targets ``(n, labels)`` to a scalar; 0 where no label is known."""
        known = ~targets.isnan()
        losses = functional.binary_cross_entropy_with_logits(
            logits.float(), targets.nan_to_num(), reduction="none"
        )
        return (losses * known).sum() / known.sum().clamp(min=1)

    @staticmethod
    def counted(targets: torch.Tensor) -> torch.Tensor:
        """How many labels are known: the weight of a part in the loss of a batch."""
        return (~targets.isnan()).sum()


def scorable(targets: torch.Tensor, labels: Sequence[str]) -> tuple[int, ...]:
    """Labels that some images show and others do not.

    Args:
        targets: ``(n, labels)`` of 0, 1 and NaN.
        labels: Names, for messages.

    Raises:
        BobError: There is none.
    """
    both = (targets == 1).any(dim=0) & (targets == 0).any(dim=0)
    found = tuple(int(index) for index in both.nonzero().flatten())
    if not found:
        raise BobError(
            f"None of {', '.join(labels)} can be scored: each is on every test image or on none. "
            "Add test images.",
            kind="dataset",
        )
    return found


def label_aurocs(
    logits: torch.Tensor, targets: torch.Tensor, scored: Sequence[int]
) -> dict[int, float]:
    """Area under the ROC curve by label, over the images where the label is known.

    Args:
        logits: ``(n, labels)``; one that is not finite makes its label's value NaN.
        targets: ``(n, labels)`` of 0, 1 and NaN.
        scored: Labels that can be scored.
    """
    values = {}
    for index in scored:
        column = logits[:, index]
        known = ~targets[:, index].isnan()
        if not torch.isfinite(column).all():
            values[index] = math.nan
            continue
        # the area is of ranks: logits of a sure model saturate a sigmoid
        ranks = column[known].unique(return_inverse=True)[1].double()
        area = binary_auroc(ranks / ranks.max().clamp(min=1), targets[known, index].long())
        values[index] = float(area)
    return values


def multilabel_metrics(
    logits: torch.Tensor, targets: torch.Tensor, scored: Sequence[int]
) -> dict[str, float]:
    """``mean_auroc`` over the labels that can be scored, and ``test_loss`` over all."""
    return {
        "mean_auroc": fmean(label_aurocs(logits, targets, scored).values()),
        "test_loss": float(KnownLabelsLoss()(logits, targets)),
    }


def chance_bound(targets: torch.Tensor, scored: Sequence[int]) -> float:
    """Mean AUROC that a guess stays below, but for a share of ``CHANCE_ALPHA``.

    A guess ranks at random, so that a label's area varies as the Mann-Whitney statistic:
    ``(present + absent + 1) / (12 present absent)``. Labels are taken as fully correlated, which
    makes the bound wide rather than narrow.
    """
    from scipy.stats import norm

    deviations = []
    for index in scored:
        present = int((targets[:, index] == 1).sum())
        absent = int((targets[:, index] == 0).sum())
        deviations.append(math.sqrt((present + absent + 1) / (12 * present * absent)))
    return min(1.0, 0.5 + float(norm.ppf(1 - CHANCE_ALPHA)) * fmean(deviations))
