"""Train images to fit a temperature on that the classifier did not learn from."""

from __future__ import annotations

import numpy as np
import torch

from bob.datasets.subsets import Indices, labels_digest, shuffled

MOST = 5_000
"""Images that a temperature, which is one number, is fitted on at most."""


def spare_rows(targets: torch.Tensor, taken: Indices | None = None, *, most: int = MOST) -> Indices:
    """A fixed choice of train images, which follows from the labels alone.

    Args:
        targets: Labels of the train split, ``(n,)``.
        taken: Positions to leave out.
        most: How many to choose at most.

    Returns:
        Ascending positions; empty where all are taken.
    """
    order = shuffled(len(targets), "temperature", labels_digest(targets))
    if taken is not None:
        free = np.ones(len(targets), bool)
        free[taken] = False
        order = order[free[order]]
    return np.sort(order[:most])
