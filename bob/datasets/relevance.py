"""What a query looks for, from class labels and file names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bob.datasets.base import Relevance
from bob.errors import BobError


def class_relevance(
    query_targets: torch.Tensor, database_targets: torch.Tensor
) -> tuple[Relevance, ...]:
    """Every database image of the query's class is an easy positive; there is no junk.

    Args:
        query_targets: Class indices, ``(q,)``.
        database_targets: Class indices, ``(n,)``.
    """
    none = torch.empty(0, dtype=torch.int64)
    of_class = {
        target: Relevance((database_targets == target).nonzero().squeeze(1), none, none)
        for target in query_targets.unique().tolist()
    }
    return tuple(of_class[target] for target in query_targets.tolist())


def first_fifth(
    names: Sequence[str], targets: torch.Tensor, *, share: float = 0.2, cap: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's queries: the first fifth of each class by file name; the rest is the database.

    A class of fewer than five images gives no query; its images are in the database, where nothing
    looks for them.

    Args:
        names: File names, one per image.
        targets: Class indices, ``(n,)``.
        share: Share of queries per class, rounded down.
        cap: Images per class to use, the first by name; the others are left out. All by default.

    Returns:
        Indices of queries and of the database, int64, class by class and by name within.

    Raises:
        BobError: No class has images enough for a query.
    """
    if len(names) != len(targets) or not 0 < share < 1 or (cap is not None and cap < 1):
        raise ValueError(
            f"{len(names)} names and {len(targets)} targets, share {share}, cap {cap}: names and "
            "targets must be as many, the share between 0 and 1, and the cap at least 1."
        )
    order = sorted(range(len(names)), key=names.__getitem__)
    by_class: dict[int, list[int]] = {}
    for index, target in zip(order, targets[order].tolist(), strict=True):
        by_class.setdefault(target, []).append(index)
    queries: list[int] = []
    database: list[int] = []
    for target in sorted(by_class):
        used = by_class[target][:cap]
        # Rounding must not lose a query that is there exactly, as floor(0.29 * 100) would.
        count = math.floor(share * len(used) + 1e-9)
        queries += used[:count]
        database += used[count:]
    if not queries:
        largest = max((len(indices) for indices in by_class.values()), default=0)
        raise BobError(
            f"No class has images enough for a query: {share:g} of the largest, which has "
            f"{largest}{'' if cap is None else f' and is cut to {cap}'}, is less than one image.",
            kind="dataset",
        )
    return torch.tensor(queries, dtype=torch.int64), torch.tensor(database, dtype=torch.int64)
