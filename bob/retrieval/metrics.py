"""Retrieval metrics from the ranks of positives and junk.

Sources: the Oxford buildings and revisited Oxford and Paris protocols (Radenović et al., CVPR 2018)
and the paper's retrieval code. Names ending in ``_authors`` are computed as the paper does where
that differs from common usage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bob.case import QueryOutcomes
from bob.datasets.base import Relevance, Setting
from bob.errors import BobError
from bob.retrieval.blocks import Rows
from bob.retrieval.ranks import ranks

Integers = npt.NDArray[np.int64]

# The normal quantile of one in a thousand.
_DEVIATIONS = 3.1


@dataclass(frozen=True)
class Ranked:
    """Where a query's positives and junk stand in the full ranking of the database.

    Attributes:
        positives: Ranks counted from 0 before junk is removed, int64, ascending.
        junk: Likewise.
    """

    positives: Integers
    junk: Integers

    @property
    def clean(self) -> Integers:
        """Ranks of the positives after junk is removed."""
        return self.positives - np.searchsorted(self.junk, self.positives)


def average_precision(clean: Integers) -> float:
    """Area under the precision-recall curve by trapezoids, as Oxford and revisitop compute it.

    Precision before a positive, 1 if it is the very first item, and with it are averaged; each of
    the positives is as wide a step of recall.

    Args:
        clean: Ranks of the positives after junk is removed, ascending; at least one.
    """
    earlier = np.arange(len(clean))
    before = np.where(clean == 0, 1.0, earlier / np.maximum(clean, 1))
    return float(np.mean((before + (earlier + 1) / (clean + 1)) / 2))


def average_precision_noninterpolated(clean: Integers) -> float:
    """Mean of the precision at each positive; arguments as of ``average_precision``."""
    return float(np.mean(np.arange(1, len(clean) + 1) / (clean + 1)))


def summarise(ranked: Sequence[Ranked], ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Metrics over queries. All but ``mrr_authors`` are means over the queries with positives.

    Args:
        ranked: One entry per query.
        ks: Cut-offs; one may exceed the size of the database, and ``precision_K`` still divides
            by it.

    Returns:
        ``map`` (see ``average_precision``), ``map_noninterpolated`` and ``mrr``, after junk is
        removed. ``mrr_authors``: reciprocal ranks before junk is removed, summed over queries with
        positives and divided by the number of all queries. For each K, after junk is removed:
        ``recall_K``, the share of a query's positives among the first K; ``hit_K``, whether there
        is any; ``precision_K``, their share of K; ``precision_K_authors``, their share of K or of
        the last positive's rank counted from 1, whichever is less. ``queries`` and
        ``queries_without_positives`` are counts.

    Raises:
        BobError: No query has a positive.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"Cut-offs are {tuple(ks)}; none may be below 1.")
    scored = [query for query in ranked if len(query.positives)]
    if not scored:
        raise BobError(
            f"None of the {len(ranked)} queries has a positive in the database, so there is "
            "nothing to find: check the ground truth, or the setting it is read in.",
            kind="dataset",
        )
    clean = [query.clean for query in scored]

    def mean(score: Callable[[Integers], float]) -> float:
        return math.fsum(map(score, clean)) / len(clean)

    metrics = {
        "map": mean(average_precision),
        "map_noninterpolated": mean(average_precision_noninterpolated),
        "mrr": mean(lambda of: 1 / (1 + int(of[0]))),
        "mrr_authors": math.fsum(1 / (1 + int(of.positives[0])) for of in scored) / len(ranked),
    }
    for k in ks:
        hits = [int(np.searchsorted(of, k)) for of in clean]
        caps = [min(k, int(of[-1]) + 1) for of in clean]
        totals = [len(of) for of in clean]
        metrics[f"recall_{k}"] = _mean_ratio(hits, totals)
        metrics[f"hit_{k}"] = sum(count > 0 for count in hits) / len(hits)
        metrics[f"precision_{k}"] = _mean_ratio(hits, [k] * len(hits))
        metrics[f"precision_{k}_authors"] = _mean_ratio(hits, caps)
    metrics["queries"] = float(len(ranked))
    metrics["queries_without_positives"] = float(len(ranked) - len(scored))
    return metrics


def ranked_queries(
    queries: torch.Tensor,
    database: Rows | torch.Tensor,
    relevance: Sequence[Relevance],
    setting: Setting,
    *,
    normalise: bool = True,
    device: torch.device | str | None = None,
    memory_mb: float = 320,
) -> list[Ranked]:
    """Rank the database for every query, exactly.

    Args:
        queries: Features, ``(q, width)``.
        database: Features, ``(n, width)``.
        relevance: One entry per query.
        setting: What counts, as in revisitop. ``easy``: the easy ones are positives, the hard ones
            junk. ``medium``: both are positives. ``hard``: the hard ones are positives, the easy
            ones junk. The dataset's junk always is.
        normalise: Rank by cosine.
        device: Where products are taken; the queries' device by default.
        memory_mb: As in ``bob.retrieval.search.ranks``.

    Raises:
        BobError: Features are not finite or do not fit together, or an entry names a position
            that the database lacks, or one twice.
    """
    if len(relevance) != len(queries):
        raise ValueError(f"{len(relevance)} relevance entries for {len(queries)} queries.")
    split = [split_relevance(entry, setting) for entry in relevance]
    ranks_by_query = ranks(
        queries,
        database,
        [torch.cat(pair) for pair in split],
        normalise=normalise,
        device=device,
        memory_mb=memory_mb,
    )
    ranked = []
    for query, (query_ranks, (positives, _)) in enumerate(zip(ranks_by_query, split, strict=True)):
        _check_distinct(query, query_ranks, relevance[query])
        of = query_ranks.numpy()
        ranked.append(Ranked(np.sort(of[: len(positives)]), np.sort(of[len(positives) :])))
    return ranked


def evaluate(
    queries: torch.Tensor,
    database: Rows | torch.Tensor,
    relevance: Sequence[Relevance],
    setting: Setting,
    *,
    ks: Sequence[int] = (1, 5, 10),
    **options: Any,
) -> dict[str, float]:
    """The metrics of ``summarise`` of the rankings of ``ranked_queries``, whose arguments it takes.

    Raises:
        BobError: As ``ranked_queries``, or no query has a positive.
    """
    return summarise(ranked_queries(queries, database, relevance, setting, **options), ks)


def query_outcomes(ranked: Sequence[Ranked]) -> QueryOutcomes:
    """Average precision (see ``average_precision``) and first rank of every query."""
    answered = [bool(len(query.positives)) for query in ranked]
    return QueryOutcomes(
        average_precisions=np.array(
            [
                average_precision(query.clean) if has_positive else math.nan
                for query, has_positive in zip(ranked, answered, strict=True)
            ],
            dtype=np.float64,
        ),
        first_ranks=np.array(
            [
                int(query.clean[0]) + 1 if has_positive else 0
                for query, has_positive in zip(ranked, answered, strict=True)
            ],
            dtype=np.int64,
        ),
    )


def split_relevance(relevance: Relevance, setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Positives and junk of a query, int64 database positions; settings as in ``evaluate``."""
    easy, hard, junk = (
        positions.to(torch.int64) for positions in (relevance.easy, relevance.hard, relevance.junk)
    )
    match setting:
        case "easy":
            return easy, torch.cat((junk, hard))
        case "medium":
            return torch.cat((easy, hard)), junk
        case "hard":
            return hard, torch.cat((junk, easy))
    raise ValueError(f"Unknown setting {setting!r}; easy, medium and hard are known.")


def marks(positions: torch.Tensor, relevance: Relevance, setting: Setting) -> list[str]:
    """``right``, ``wrong`` or ``junk`` for each of a query's results, given as positions."""
    positives, junk = split_relevance(relevance, setting)
    right = torch.isin(positions, positives).tolist()
    ignored = torch.isin(positions, junk).tolist()
    return [
        "right" if good else "junk" if skip else "wrong"
        for good, skip in zip(right, ignored, strict=True)
    ]


def chance_bound(
    relevance: Sequence[Relevance],
    size: int,
    setting: Setting,
    *,
    draws: int = 20_000,
    seed: int = 0,
) -> float:
    """A ``map`` that a ranking at random stays below, 999 times of 1,000.

    Without junk, a query's positives lie anywhere among the rest of the database. Average
    precisions of such draws give mean and deviation for each number of positives and rest;
    queries are taken to be ranked independently of one another. One ranking common to all queries,
    as constant features give, deviates much further.

    Args:
        relevance: One entry per query.
        size: Rows of the database.
        setting: As in ``evaluate``.
        draws: Rankings drawn in all, shared among the distinct numbers; at least 50 for each.
        seed: Of the draws.

    Raises:
        BobError: No query has a positive.
    """
    pairs = [split_relevance(entry, setting) for entry in relevance]
    kinds = Counter((len(yes), size - len(junk)) for yes, junk in pairs if len(yes))
    if not kinds:
        raise BobError(
            f"None of the {len(relevance)} queries has a positive in the database, so there is "
            "no score to expect by chance.",
            kind="dataset",
        )
    generator = np.random.default_rng(seed)
    mean = variance = 0.0
    for (positives, rest), count in sorted(kinds.items()):
        scores = [
            average_precision(np.sort(generator.choice(rest, positives, replace=False)))
            for _ in range(max(50, draws // len(kinds)))
        ]
        mean += count * float(np.mean(scores))
        variance += count * float(np.var(scores, ddof=1))
    total = sum(kinds.values())
    return (mean + _DEVIATIONS * math.sqrt(variance)) / total


def _mean_ratio(counts: Sequence[int], totals: Sequence[int]) -> float:
    ratios = [count / total for count, total in zip(counts, totals, strict=True)]
    return math.fsum(ratios) / len(ratios)


def _check_distinct(query: int, query_ranks: torch.Tensor, relevance: Relevance) -> None:
    if len(query_ranks.unique()) == len(query_ranks):
        return
    positions = torch.cat((relevance.easy, relevance.hard, relevance.junk))
    values, counts = positions.unique(return_counts=True)
    raise BobError(
        f"Query {query} names database position {int(values[counts > 1][0])} more than once among "
        "its easy, hard and junk images.",
        kind="dataset",
    )
