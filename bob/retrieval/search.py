"""Exact maximum-inner-product search over a database that is read in blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from bob.retrieval.blocks import (
    BLOCK,
    Blocks,
    Rows,
    TensorRows,
    as_rows,
    decode,
    device_for,
    encode,
    products,
    query_blocks,
    unit_rows,
    workers,
)
from bob.retrieval.ranks import ranks

__all__ = ["Rows", "TensorRows", "ranks", "search", "unit_rows"]

_QUERIES = 1024  # queries per product
_FOLD = 16  # scores behind one maximum, which decides whether they are looked at
_CANDIDATE_BYTES = 24  # a key, and what comes and goes with it


def search(
    queries: torch.Tensor,
    database: Rows | torch.Tensor,
    k: int,
    *,
    normalise: bool = False,
    device: torch.device | str | None = None,
    memory_mb: float = 320,
    block: int = BLOCK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``k`` database rows of the largest inner product with each query.

    Args:
        queries: ``(q, width)``.
        database: ``(n, width)``. It is read as often as candidates of all queries fill the memory
            allowed for them; once as a rule.
        k: How many to find; all of them where the database has fewer.
        normalise: Compare by cosine: scale queries and database rows to length 1.
        device: Where products are taken; the queries' device by default.
        memory_mb: Bound on the memory for candidates, in MiB. Queries, a block of the database and
            its scores come on top.
        block: Database rows per product.

    Returns:
        Scores, float32, and database positions, int64, both ``(q, min(k, n))`` on the CPU; best
        first, equal scores by position.

    Raises:
        BobError: A row holds NaN or infinity, is too long for float32, or widths differ.
    """
    if k < 1 or block < 1:
        raise ValueError(f"k is {k} and block {block}; neither may be below 1.")
    rows = as_rows(queries, database)
    k = min(k, len(rows))
    if k == 0 or len(queries) == 0:
        return torch.empty(len(queries), k), torch.empty(len(queries), k, dtype=torch.int64)
    device = device_for(queries, device)
    with workers(device) as (pool, threads):
        blocks = Blocks(rows, normalise=normalise, device=device, size=block)
        at_once = max(1, int(memory_mb * 2**20) // (_CANDIDATE_BYTES * (k + blocks.size)))
        parts = [
            _search(queries[first : first + at_once], blocks, k, pool, threads, first)
            for first in range(0, len(queries), at_once)
        ]
        return decode(torch.cat(parts))


def _search(
    queries: torch.Tensor,
    blocks: Blocks,
    k: int,
    pool: ThreadPoolExecutor,
    threads: int,
    first: int,
) -> torch.Tensor:
    """Keys of the best rows, ``(queries, k)``, in one pass over the database."""
    groups, height = query_blocks(
        queries,
        _QUERIES,
        normalise=blocks.normalise,
        device=blocks.device,
        threads=threads,
        first=first,
    )
    best = [_Best(group, height, k, blocks) for group in groups]
    count = len(blocks.database)
    merged = 0
    coming = pool.submit(blocks.load, 0)
    for start in range(0, count, blocks.size):
        block = coming.result()
        stop = min(start + blocks.size, count)
        if stop < count:
            coming = pool.submit(blocks.load, stop)
        grown = stop >= min(2 * merged, count)
        merged = stop if grown else merged
        for done in [
            pool.submit(group_best.visit, block, start, stop, grown) for group_best in best
        ]:
            done.result()
    return torch.cat([group_best.keys[:, :k] for group_best in best])[: len(queries)].cpu()


class _Best:
    """The best keys of some queries so far, and behind them those that may come to be among them.

    A score has to exceed the ``k``-th best as of the last merge to be kept; an equal one at a later
    position never displaces it. Merging whenever the rows seen have doubled leaves about ``k``
    candidates to each merge where rows come in no particular order; any order is exact.
    """

    def __init__(self, group: torch.Tensor, queries: int, k: int, blocks: Blocks) -> None:
        self.group = group
        self.k = k
        device = blocks.device
        self.worst = encode(torch.full((1, 1), -torch.inf, device=device), 0)
        self.keys = self.worst.repeat(queries, k + blocks.size)
        self.threshold = torch.full((queries, 1), -torch.inf, device=device)
        self.used = torch.full((queries,), k, device=device)

    def visit(self, block: torch.Tensor, start: int, stop: int, merge: bool) -> None:
        """Take up the block of rows ``start`` to ``stop``, and merge if told to."""
        scores = products(self.group, block)
        scores[:, stop - start :] = -torch.inf
        self.add(scores, start)
        if merge:
            self.merge()

    def add(self, scores: torch.Tensor, start: int) -> None:
        """Keep what may be among the best of scores ``(queries, block)`` of rows from ``start``."""
        if start == 0 and scores.shape[1] > self.k:
            least = scores.topk(self.k, dim=1).values[:, -1:]
            self.threshold = least.nextafter(self.threshold)
        lines, columns, above = self._above(scores)
        counts = torch.bincount(lines, minlength=len(self.used))
        if int((self.used + counts).max()) > self.keys.shape[1]:
            self.merge()
            lines, columns, above = self._above(scores)
            counts = torch.bincount(lines, minlength=len(self.used))
        slots = torch.arange(len(lines), device=lines.device)
        slots += (self.used - counts.cumsum(0) + counts)[lines]
        self.keys[lines, slots] = encode(above, columns + start)
        self.used += counts

    def merge(self) -> None:
        """Bring the best to the front, in order, and raise the threshold to the last of them."""
        used = int(self.used.max())
        best = self.keys[:, :used].topk(self.k, dim=1).values
        self.keys[:, : self.k] = best
        self.keys[:, self.k : used] = self.worst
        self.used.fill_(self.k)
        self.threshold = decode(best[:, -1:])[0]

    def _above(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Line (ascending), column and score of all that exceed their line's threshold."""
        folded = scores.view(len(scores), _FOLD, -1)
        hot = (folded.amax(dim=1) > self.threshold).nonzero()
        lines, columns = hot[:, 0], hot[:, 1]
        candidates = folded[lines, :, columns]
        which, fold = (candidates > self.threshold[lines]).nonzero(as_tuple=True)
        return lines[which], columns[which] + fold * folded.shape[2], candidates[which, fold]
