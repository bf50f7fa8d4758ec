"""Weighted nearest-neighbour vote. Source: DINO's ``eval_knn.py`` (M. Caron et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bob.retrieval.search import search, unit_rows


def votes(
    train: torch.Tensor,
    targets: torch.Tensor,
    test: torch.Tensor,
    *,
    classes: int,
    ks: Sequence[int],
    temperature: float,
) -> dict[int, torch.Tensor]:
    """Shares of the vote for each class, for several numbers of neighbours in one search.

    The ``k`` nearest train images by cosine similarity vote for their class with weight
    ``exp(similarity / temperature)``. Features of zero norm are similar to nothing. Where fewer
    than ``k`` images exist, all of them vote.

    Args:
        train: Features to look among, ``(n, d)``.
        targets: Their classes, ``(n,)``.
        test: Features to classify, ``(m, d)``.
        classes: Number of classes.
        ks: Numbers of neighbours.
        temperature: Of the weights.

    Returns:
        By ``k``, shares ``(m, classes)`` that add up to 1 in each row.
    """
    scores, nearest = search(unit_rows(test), unit_rows(train), min(max(ks), len(train)))
    scores, nearest = scores.cpu(), nearest.cpu()
    # Only ratios matter; the largest weight of a row is 1, so that none overflows.
    weights = ((scores - scores[:, :1]) / temperature).double().exp()
    labels = targets.cpu()[nearest]
    result = {}
    for k in ks:
        tally = torch.zeros(len(test), classes, dtype=torch.float64)
        tally.scatter_add_(1, labels[:, :k], weights[:, :k])
        result[k] = tally / tally.sum(dim=1, keepdim=True)
    return result
