"""What search and ranking share: rows read, checked and scaled in blocks, products, and keys.

Equal scores are ordered by database position, so equal rows have to score equally. Not every BLAS
sees to that: MKL takes other paths at the edges of a matrix, and the last columns of an odd-sized
product differ in rounding from the same columns elsewhere. Blocks are therefore whole tiles,
filled up with rows of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import torch

from bob.errors import BobError

BLOCK = 1024  # database rows per product: scores of a block of queries stay in the cache
_ROW_TILE = 64
_QUERY_TILE = 16
_LOW = 2**32 - 1
_LONGEST = 1.8e19  # the square is just below the largest float32


class Rows(Protocol):
    """A matrix whose rows are read in blocks, such as a tensor or a memory-mapped feature file."""

    def __len__(self) -> int: ...

    @property
    def width(self) -> int:
        """Numbers per row."""
        ...

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows ``start`` to ``stop``, float32, ``(stop - start, width)``.

        Called from one thread at a time, not always the same.
        """
        ...


class TensorRows:
    """A tensor as ``Rows``.

    Args:
        matrix: ``(n, width)``, of any floating type and on any device.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix

    def __len__(self) -> int:
        return len(self._matrix)

    @property
    def width(self) -> int:
        """Numbers per row."""
        return int(self._matrix.shape[1])

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows ``start`` to ``stop``, float32, on the tensor's device."""
        return self._matrix[start:stop].to(torch.float32)


class Blocks:
    """A database as blocks of one size, ready for ``products``; one thread at a time may load.

    Args:
        database: What to read.
        normalise: Whether to scale rows to length 1.
        device: Where to put them.
        size: Rows per block at most; rounded up to whole tiles.
    """

    def __init__(
        self, database: Rows, *, normalise: bool, device: torch.device, size: int = BLOCK
    ) -> None:
        self.database = database
        self.normalise = normalise
        self.device = device
        self.size = round_up(min(size, len(database)), _ROW_TILE)
        self._block = torch.empty(self.size, database.width, device=device)

    def load(self, start: int) -> torch.Tensor:
        """The block of rows from ``start``; rows past the database's end are zeros.

        Raises:
            BobError: A row holds NaN or infinity, or is too long for float32.
        """
        stop = min(start + self.size, len(self.database))
        self._block[: stop - start] = self.database.rows(start, stop).detach()
        self._block[stop - start :] = 0
        _prepare(self._block, normalise=self.normalise, what="Database", first=start)
        return _packed(self._block)


def query_blocks(
    queries: torch.Tensor,
    most: int,
    *,
    normalise: bool,
    device: torch.device,
    threads: int = 1,
    first: int = 0,
) -> tuple[list[torch.Tensor], int]:
    """Queries in blocks of one height, filled up with rows of zeros, and that height.

    Args:
        queries: ``(q, width)``, at least one.
        most: Upper bound on the height, but for rounding up to whole tiles.
        normalise: Whether to scale them to length 1.
        device: Where to put them.
        threads: Of how many a multiple of blocks is made.
        first: Number of the first query, for messages.

    Raises:
        BobError: A row holds NaN or infinity, or is too long for float32.
    """
    count = round_up(-(-len(queries) // most), threads)
    height = round_up(-(-len(queries) // count), _QUERY_TILE)
    count = -(-len(queries) // height)
    prepared = torch.zeros(count * height, queries.shape[1], device=device)
    prepared[: len(queries)] = queries.detach()
    _prepare(prepared, normalise=normalise, what="Query", first=first)
    return [_packed(block) for block in prepared.split(height)], height


@contextmanager
def workers(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads to share blocks out among, as many as torch uses, and how many they are.

    Each runs torch's functions on itself alone. Thousands of short functions, each run by all
    threads together, would wait for the slowest thread thousands of times, which on a busy machine
    takes several times as long. Torch keeps one number of threads for all threads yet to start;
    it is put back at the end.
    """
    threads = torch.get_num_threads()
    count = threads if device.type == "cpu" else 1
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            ThreadPoolExecutor(count, "search", torch.set_num_threads, (1,)) as pool,
        ):
            yield pool, count
    finally:
        torch.set_num_threads(threads)


def device_for(queries: torch.Tensor, device: torch.device | str | None) -> torch.device:
    """The device with its number, the queries' own by default."""
    return queries.device if device is None else torch.empty(0, device=device).device


def products(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Inner products ``(queries, rows)`` of two blocks."""
    scores: torch.Tensor = torch.nn.functional.linear(queries, rows)
    return scores.to_dense() if scores.is_mkldnn else scores


def _packed(block: torch.Tensor) -> torch.Tensor:
    # oneDNN uses every instruction set on every make of processor; the BLAS behind torch.mm, if it
    # is MKL, leaves half the speed of AVX-512 unused on AMD's.
    if block.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return block.to_mkldnn()
    return block.clone()


def unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Rows of length 1, float32; a row of zeros stays zero and has cosine 0 with everything.

    Args:
        features: ``(n, width)``; neither very small nor very large values lose their direction.

    Raises:
        BobError: A row holds NaN or infinity.
    """
    copied = features.detach().to(torch.float32, copy=True)
    return _prepare(copied, normalise=True, what="Feature")


def _prepare(features: torch.Tensor, *, normalise: bool, what: str, first: int = 0) -> torch.Tensor:
    """Check rows, and scale them to length 1 if wanted, in place.

    Rows that are not scaled must be short enough for no product of two to overflow. Those that are,
    are divided by their largest value first, so that squares neither overflow nor vanish.
    """
    order, limit = (torch.inf, torch.finfo(torch.float32).max) if normalise else (2, _LONGEST)
    size = torch.linalg.vector_norm(features, ord=order, dim=1, keepdim=True)
    bad = (~(size[:, 0] <= limit)).nonzero()
    if len(bad):
        row = int(bad[0])
        finite = bool(torch.isfinite(features[row]).all())
        why = "is too long for float32 products" if finite else "holds NaN or infinity"
        more = f" (and {len(bad) - 1} more of those read with it)" if len(bad) > 1 else ""
        raise BobError(f"{what} row {first + row} {why}{more}.", kind="features")
    if normalise:
        features /= size.masked_fill_(size == 0, 1)
        size = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        features /= size.masked_fill_(size == 0, 1)
    return features


def as_rows(queries: torch.Tensor, database: Rows | torch.Tensor) -> Rows:
    """The database as ``Rows``, once shapes are known to agree.

    Raises:
        BobError: They do not.
    """
    for what, matrix in (("Queries", queries), ("The database", database)):
        if isinstance(matrix, torch.Tensor) and matrix.ndim != 2:
            raise BobError(
                f"{what} must be a matrix with one row per image, not of shape "
                f"{tuple(matrix.shape)}.",
                kind="features",
            )
    rows = TensorRows(database) if isinstance(database, torch.Tensor) else database
    if rows.width != queries.shape[1] or rows.width == 0:
        raise BobError(
            f"Queries have {queries.shape[1]} features and the database has {rows.width}; both "
            "must come from the same backbone, and hold one at least.",
            kind="features",
        )
    if len(rows) > _LOW:
        raise BobError(f"The database has {len(rows)} rows, more than {_LOW}.", kind="features")
    return rows


def encode(scores: torch.Tensor, positions: torch.Tensor | int) -> torch.Tensor:
    """One int64 per score and position, larger where the score is, or else the position lower."""
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0, its equal
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() * 2**32 + (_LOW - positions)


def decode(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and positions that keys were made of."""
    bits = (keys >> 32).to(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32), _LOW - (keys & _LOW)


def round_up(number: int, multiple: int) -> int:
    """The first multiple that is not below the number."""
    return -(-number // multiple) * multiple
