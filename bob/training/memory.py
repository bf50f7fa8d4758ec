"""Batches that do not fit a device, and objects that need not be looked through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import nn

from bob.distributed.group import Group, NeedsParts
from bob.errors import BobError

_Done = TypeVar("_Done")

SCORED_PIXELS = 2**20
"""Pixels of a part of a batch that is only scored, on a CPU: 20 images of 224 x 224. More at once
are not faster there, and what every layer makes of them takes the more memory."""


class Counts(Protocol):
    """Counts that are kept from case to case; see ``bob.training.remembered``."""

    def count(self, batch: int) -> int:
        """Parts to start with, for batches of so many images; 1 where nothing is known."""

    def keep(self, batch: int, count: int) -> None:
        """Keep what was found out."""


@dataclass
class Parts:
    """Into how many parts a batch is split so that each fits the memory.

    What was found out on one batch is kept for the next ones, and where ``counts`` says so for the
    next cases. An attempt at the first batch that does not fit leaves no trace: random generators
    and the module's buffers are put back, so that a case that starts with a count gives what it
    would have given had it found it out.

    Attributes:
        device: Where batches are run.
        count: Parts of a batch; doubled whenever one of them does not fit.
        counts: Where counts are kept; none for a phase that starts from 1.
        module: What learns statistics of batches while they run; none where nothing does.
        group: Processes that have to split their shares alike, so that all of them start anew.
        pixels: Most pixels of a part that has more than one image; no limit where 0.
        remembered: The count that it started with, where one was kept; 0 otherwise.
        first: Parts of the first batch, once it was run.
    """

    device: torch.device
    count: int = 1
    counts: Counts | None = None
    module: nn.Module | None = None
    group: Group = field(default_factory=Group)
    pixels: int = 0
    remembered: int = field(default=0, init=False)
    first: int = field(default=0, init=False)
    _batch: int = field(default=0, init=False)

    @classmethod
    def of_training(
        cls, device: torch.device, group: Group, counts: Counts | None, module: nn.Module
    ) -> Parts:
        """The parts of batches that a group trains on; alone, with what is kept for it."""
        if group.alone:
            return cls(device, counts=counts, module=module)
        return cls(device, count=group.parts, module=module, group=group)

    @classmethod
    def of_scoring(cls, device: torch.device, counts: Counts | None) -> Parts:
        """The parts of batches that no gradient is asked of."""
        return cls(device, counts=counts, pixels=SCORED_PIXELS if device.type == "cpu" else 0)

    @property
    def metrics(self) -> dict[str, float]:
        """How batches were split: ``micro_batches``, and how it came to that where it did."""
        found = {"micro_batches": float(self.count)}
        if self.first not in (0, self.count):
            found["micro_batches_first"] = float(self.first)
        if self.remembered:
            found["micro_batches_remembered"] = float(self.remembered)
        return found

    def state(self) -> tuple[int, int, int, int]:
        """What a checkpoint keeps of it."""
        return self.count, self.remembered, self.first, self._batch

    def take_up(self, state: tuple[int, int, int, int]) -> None:
        """Go on as a checkpoint was written."""
        count, self.remembered, self.first, self._batch = state
        # several devices begin anew, from the same checkpoint, with as many as were found out since
        self.count = max(count, self.group.parts)

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
            NeedsParts: A part does not fit, and other processes have to split theirs too.
        """
        if not self._batch:
            self._begin(len(images))
        put_back = None if self.first else _state(self.device, self.module)
        before = self.count
        while True:
            try:
                done = work(self._slices(images))
            except torch.OutOfMemoryError:
                pass
            else:
                self.first = self.first or self.count
                if self.count != before and self.counts is not None:
                    self.counts.keep(self._batch, self.count)
                return done
            # Behind the clause: inside it the exception holds on to the tensors of the attempt.
            undo()
            if put_back is not None:
                put_back()
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
            if not self.group.alone:
                raise NeedsParts(
                    f"Out of memory on {self.device} with a part of {len(images)} images.",
                    count=self.count,
                )

    def _begin(self, batch: int) -> None:
        self._batch = batch
        kept = self.counts.count(batch) if self.counts is not None else 1
        if kept > self.count:
            self.count = self.remembered = kept

    def _slices(self, images: Sequence[torch.Tensor] | torch.Tensor) -> list[slice]:
        batch = len(images)
        size = max(1, -(-batch // self.count))
        if self.pixels:
            height, width = images[0].shape[-2:]
            size = min(size, max(1, self.pixels // (height * width)))
        return [slice(start, start + size) for start in range(0, batch, size)]


def _state(device: torch.device, module: nn.Module | None) -> Callable[[], None]:
    """What puts random generators and a module's buffers back to how they are now."""
    random = torch.get_rng_state()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()] if module else []

    def put_back() -> None:
        torch.set_rng_state(random)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)

    return put_back
