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
    return _shares(
        scores.cpu(), targets.cpu()[nearest.cpu()], classes=classes, ks=ks, temperature=temperature
    )


def votes_among(
    train: torch.Tensor,
    targets: torch.Tensor,
    rows: torch.Tensor,
    *,
    classes: int,
    k: int,
    temperature: float,
) -> torch.Tensor:
    """The vote on some of the train images, each by all of the others.

    An image has no vote on itself; its duplicates have. Where fewer than ``k`` others exist, all of
    them vote.

    Args:
        train: Features, ``(n, d)``, n at least 2.
        targets: Their classes, ``(n,)``.
        rows: Positions of the images to classify, int64 ``(m,)``.
        classes: Number of classes.
        k: Number of neighbours.
        temperature: Of the weights, as in ``votes``.

    Returns:
        Shares ``(m, classes)`` that add up to 1 in each row.

    Raises:
        ValueError: There is no other image.
    """
    if len(train) < 2:
        raise ValueError("Images that vote on each other have to be two at least.")
    unit = unit_rows(train)
    wanted = min(k + 1, len(train))
    scores, nearest = (found.cpu() for found in search(unit[rows.to(unit.device)], unit, wanted))
    # The image itself goes last. Among many duplicates it may not be found; the last one goes then.
    itself = nearest == rows.cpu()[:, None]
    others = itself.byte().argsort(dim=1, stable=True)[:, :-1]
    scores, nearest = scores.gather(1, others), nearest.gather(1, others)
    return _shares(
        scores, targets.cpu()[nearest], classes=classes, ks=(k,), temperature=temperature
    )[k]


def _shares(
    scores: torch.Tensor,
    labels: torch.Tensor,
    *,
    classes: int,
    ks: Sequence[int],
    temperature: float,
) -> dict[int, torch.Tensor]:
    """Shares by ``k`` from the neighbours' similarities and classes, both ``(m, most)``."""
    # Only ratios matter; the largest weight of a row is 1, so that none overflows.
    weights = ((scores - scores[:, :1]) / temperature).double().exp()
    result = {}
    for k in ks:
        tally = torch.zeros(len(scores), classes, dtype=torch.float64)
        tally.scatter_add_(1, labels[:, :k], weights[:, :k])
        result[k] = tally / tally.sum(dim=1, keepdim=True)
    return result
