"""A feature matrix that is read in blocks, whether it lies in memory or in shards on disk."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray


class Features:
    """Rows of features over one or more arrays, memory-mapped or not.

    Args:
        shards: Arrays ``(rows, width)`` of float16 or float32, in order.
    """

    def __init__(self, shards: Sequence[NDArray[np.floating]]) -> None:
        self._shards = list(shards)
        self._ends = list(accumulate(len(shard) for shard in shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def width(self) -> int:
        """Features per row."""
        return int(self._shards[0].shape[1])

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows ``start`` to ``stop`` as float32 ``(stop - start, width)`` in memory."""
        first = bisect_right(self._ends, start)
        parts = []
        for index in range(first, len(self._shards)):
            begin = self._ends[index] - len(self._shards[index])
            if begin >= stop:
                break
            part = self._shards[index][max(0, start - begin) : stop - begin]
            parts.append(np.array(part, dtype=np.float32))
            _let_go(self._shards[index])
        if not parts:
            return torch.empty(0, self.width)
        return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def tensor(self) -> torch.Tensor:
        """Every row, float32 ``(n, width)`` in memory."""
        return self.rows(0, len(self))


def _let_go(shard: NDArray[np.floating]) -> None:
    """Give the pages of a mapped shard back to the system, which reads them again when needed.

    Otherwise a pass over a file that is larger than memory counts as resident as a whole.
    """
    mapping = getattr(shard, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
