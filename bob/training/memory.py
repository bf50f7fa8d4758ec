"""Batches that do not fit a device, and objects that need not be looked through."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from bob.errors import BobError

_Done = TypeVar("_Done")


@dataclass
class Parts:
    """Into how many parts a batch is split so that each fits the memory.

    What was found out on one batch is kept for the next ones.

    Attributes:
        device: Where batches are run.
        count: Parts of a batch; doubled whenever one of them does not fit.
    """

    device: torch.device
    count: int = 1

    def run(
        self,
        images: Sequence[torch.Tensor] | torch.Tensor,
        work: Callable[[list[slice]], _Done],
        *,
        undo: Callable[[], None] = lambda: None,
    ) -> _Done:
        """Do the work of a batch, in as many parts as the memory asks for.

        Args:
            images: The batch, ``(b, 3, height, width)`` or a list of ``(3, height, width)``.
            work: Gets the parts as slices that cover the batch in order; started anew over smaller
                ones when memory runs out. It may sum up gradients over the parts.
            undo: Called before a new start, to take back what was left of the last one.

        Returns:
            What ``work`` returned.

        Raises:
            BobError: A single image does not fit; ``kind`` is ``out-of-memory``.
        """
        while True:
            try:
                return work(self._slices(len(images)))
            except torch.OutOfMemoryError:
                pass
            # Behind the clause: inside it the exception holds on to the tensors of the attempt.
            undo()
            if self.count >= len(images):
                height, width = images[0].shape[-2:]
                raise BobError(
                    f"Out of memory on {self.device} with a single image of {height} x {width} "
                    "pixels; take a larger device.",
                    kind="out-of-memory",
                )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.count *= 2

    def _slices(self, batch: int) -> list[slice]:
        size = max(1, -(-batch // self.count))
        return [slice(start, start + size) for start in range(0, batch, size)]


@contextmanager
def settled_objects() -> Iterator[None]:
    """Python's search for cycles passes over every object that exists already.

    Imports leave half a million of them, and a loop of small updates that allocates many objects
    spends a tenth of its time looking through them.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
