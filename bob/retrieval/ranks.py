"""Where wanted rows stand in the full ranking of a database, without holding the ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from bob.errors import BobError
from bob.retrieval.blocks import (
    BLOCK,
    Blocks,
    Rows,
    as_rows,
    device_for,
    encode,
    products,
    query_blocks,
    workers,
)

_QUERIES = 384  # queries whose scores are held at once, by all threads together
_LINES = 16  # of these, as many are sorted at once: the copy should stay in the cache
_FEW_TIES = 16  # wanted items of a query up to which ties are counted one by one


def ranks(
    queries: torch.Tensor,
    database: Rows | torch.Tensor,
    wanted: Sequence[torch.Tensor],
    *,
    normalise: bool = False,
    device: torch.device | str | None = None,
    memory_mb: float = 320,
    block: int = BLOCK,
) -> list[torch.Tensor]:
    """Where each query's wanted rows stand in the full ranking of the database.

    The ranking is by score, descending, and equal scores by position. A database that fits with the
    scores of a few hundred queries into ``memory_mb`` is read once. A larger one is read twice:
    for the scores of the wanted rows, and to count what precedes these, where the wanted rows
    themselves count with the scores recorded before.

    Args:
        queries: ``(q, width)``.
        database: ``(n, width)``.
        wanted: Database positions for each query, in any order and number.
        normalise: Compare by cosine: scale queries and database rows to length 1.
        device: Where products are taken; the queries' device by default.
        memory_mb: Bound on the memory for database rows and scores held at once, in MiB.
        block: Database rows per product.

    Returns:
        For each query the ranks, counted from 0, int64 on the CPU, in the order of ``wanted``.

    Raises:
        BobError: A row holds NaN or infinity, is too long for float32, widths differ, or a wanted
            position is not in the database.
    """
    rows = as_rows(queries, database)
    asked = _checked(wanted, len(queries), len(rows))
    lengths = torch.tensor([len(positions) for positions in asked], dtype=torch.int64)
    if len(asked) == 0 or int(lengths.sum()) == 0:
        return [torch.empty(0, dtype=torch.int64) for _ in asked]
    device = device_for(queries, device)
    with workers(device) as (pool, threads):
        blocks = Blocks(rows, normalise=normalise, device=device, size=block)
        groups, height = query_blocks(
            queries,
            max(_QUERIES // threads, 1),
            normalise=normalise,
            device=device,
            threads=threads,
        )
        room = int(memory_mb * 2**20) // (4 * (rows.width + height * threads) * blocks.size)
        parts = -(-len(rows) // blocks.size)
        segments = -(-parts // max(room, 1))
        segment = -(-parts // segments) * blocks.size
        table = _Wanted(torch.cat(asked).to(device), lengths.to(device))
        spare = [torch.empty(height, segment, device=device) for _ in range(threads)]
        for task in ["record and count"] if segments == 1 else ["record", "count"]:
            for start in range(0, len(rows), segment):
                held = _Segment(blocks, pool, start, min(start + segment, len(rows)))
                running = [
                    pool.submit(table.visit, task, spare, group, index * height, held)
                    for index, group in enumerate(groups)
                ]
                for visit in running:
                    visit.result()
                del held  # or it would stay until the next one is whole
        return list(table.ranks.cpu().split(lengths.tolist()))


class _Segment:
    """Database rows ``start`` to ``stop``, in blocks."""

    def __init__(self, blocks: Blocks, pool: ThreadPoolExecutor, start: int, stop: int) -> None:
        self.start = start
        self.rows = stop - start
        self.block = blocks.size
        firsts = range(start, stop, blocks.size)
        self.blocks = [pool.submit(blocks.load, first).result() for first in firsts]

    def score(self, group: torch.Tensor, into: torch.Tensor) -> None:
        """Score a block of queries against every row; columns left over precede nothing."""
        for block, columns in zip(self.blocks, into.split(self.block, dim=1), strict=False):
            columns.copy_(products(group, block))
        into[:, self.rows :] = -torch.inf


class _Wanted:
    """Scores and ranks of wanted rows, filled in from one segment of the database after the other.

    Args:
        positions: Database positions of all queries, one query after the other.
        lengths: How many are each query's.
    """

    def __init__(self, positions: torch.Tensor, lengths: torch.Tensor) -> None:
        self.positions = positions
        self.lengths = lengths
        self.ends = [0, *lengths.cumsum(0).tolist()]
        self.scores = torch.empty(len(positions), device=positions.device)
        self.ranks = torch.zeros_like(positions)

    def visit(
        self,
        task: str,
        spare: list[torch.Tensor],
        group: torch.Tensor,
        query: int,
        segment: _Segment,
    ) -> None:
        """Score a group of queries against a segment; record wanted scores, count, or both.

        Args:
            task: Contains ``record``, ``count`` or both.
            spare: Memory for scores that no other thread uses now.
            group: A block of queries.
            query: Number of the first of them.
            segment: Rows to score.
        """
        scores = spare.pop()
        segment.score(group, scores)
        if "record" in task:
            self.record(scores, query, segment.start)
        if "count" in task:
            self.count(scores, query, segment.start)
        spare.append(scores)

    def record(self, scores: torch.Tensor, query: int, start: int) -> None:
        """Keep the wanted ones of scores ``(queries, rows)``, from this query and row on."""
        for chunk, span, lines, columns in self._chunks(scores, query, start):
            here = _within(columns, chunk.shape[1])
            self.scores[span][here] = chunk[lines[here], columns[here]]

    def count(self, scores: torch.Tensor, query: int, start: int) -> None:
        """Add how many of these rows precede each wanted one; recorded scores hold."""
        for chunk, span, lines, columns in self._chunks(scores, query, start):
            wanted = self.scores[span]
            here = _within(columns, chunk.shape[1])
            chunk[lines[here], columns[here]] = wanted[here]
            self.ranks[span] += _preceding(chunk, lines, columns, wanted)

    def _chunks(
        self, scores: torch.Tensor, query: int, start: int
    ) -> Iterator[tuple[torch.Tensor, slice, torch.Tensor, torch.Tensor]]:
        """Lines of the scores, and of their wanted rows: which they are, whose, and the column."""
        for top in range(0, min(len(scores), len(self.lengths) - query), _LINES):
            chunk = scores[top : top + _LINES]
            lengths = self.lengths[query + top : query + top + len(chunk)]
            span = slice(self.ends[query + top], self.ends[query + top + len(lengths)])
            if span.start < span.stop:
                lines = torch.repeat_interleave(lengths)
                yield chunk[: len(lengths)], span, lines, self.positions[span] - start


def _preceding(
    scores: torch.Tensor, lines: torch.Tensor, columns: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """How many columns of its line precede each wanted score, standing at its column.

    Args:
        scores: ``(lines, n)``.
        lines: Line of each wanted score, ascending.
        columns: Column of each; below 0 or from ``n`` on where it stands in another segment.
        wanted: The scores; within, ``scores`` holds the same.
    """
    ordered = _sorted(scores)
    size = scores.shape[1]
    counts = torch.bincount(lines)
    slots = torch.arange(len(lines), device=lines.device) - (counts.cumsum(0) - counts)[lines]
    padded = scores.new_zeros(len(scores), int(counts.max()))
    padded[lines, slots] = wanted
    not_above = torch.searchsorted(ordered, padded, right=True)[lines, slots]
    equal = not_above - torch.searchsorted(ordered, padded)[lines, slots]
    preceding = size - not_above + torch.where(columns >= size, equal, 0)
    here = _within(columns, size)
    tied = here[equal[here] > 1]
    for line in lines[tied].unique().tolist():
        which = tied[lines[tied] == line]
        preceding[which] += _equals_before(scores[line], columns[which])
    return preceding


def _equals_before(scores: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """How many equal scores stand at lower columns than each of these."""
    if len(columns) <= _FEW_TIES:
        counts = [(scores[:column] == scores[column]).sum() for column in columns.tolist()]
        return torch.stack(counts)
    # A few ties, as rounding makes them, are cheapest one by one; sorting bounds the cost of many.
    keys = encode(scores, torch.arange(len(scores), device=scores.device))
    ordered = _sorted(keys[None])[0]
    first = encode(scores[columns], 0)
    return torch.searchsorted(ordered, first, right=True) - torch.searchsorted(
        ordered, keys[columns], right=True
    )


def _within(columns: torch.Tensor, size: int) -> torch.Tensor:
    return ((columns >= 0) & (columns < size)).nonzero().squeeze(1)


def _sorted(matrix: torch.Tensor) -> torch.Tensor:
    """A copy with every line ascending; on a CPU by NumPy, whose sort is many times as fast."""
    if matrix.device.type != "cpu":
        ordered: torch.Tensor = matrix.sort(dim=1).values
        return ordered
    copied = matrix.numpy().copy()
    copied.sort(axis=1)
    return torch.from_numpy(copied)


def _checked(wanted: Sequence[torch.Tensor], queries: int, count: int) -> list[torch.Tensor]:
    if len(wanted) != queries:
        raise ValueError(f"{len(wanted)} lists of wanted positions for {queries} queries.")
    for query, positions in enumerate(wanted):
        outside = positions[(positions < 0) | (positions >= count)]
        if len(outside):
            raise BobError(
                f"Query {query} refers to database position {int(outside[0])}; the database has "
                f"{count} rows, counted from 0.",
                kind="dataset",
            )
    return [positions.to("cpu", torch.int64) for positions in wanted]
