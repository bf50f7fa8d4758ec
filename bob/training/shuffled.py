"""Shuffled batches that can begin within a pass, with every random number as it would have been."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, get_worker_info

from bob.checkpoints.encoding import State
from bob.checkpoints.randomness import Randomness
from bob.distributed.group import Group
from bob.training.loader_process import outlive_sigterm

SampleT = TypeVar("SampleT")
BatchT = TypeVar("BatchT")


class ShuffledLoader(Generic[SampleT, BatchT]):
    """A ``DataLoader`` that shuffles, leaves the last incomplete batch out, and can be stopped.

    Loader processes draw from generators of their own, from which batch to batch goes on. Each
    batch brings the state that it left them in, so that a new process can go on from there.

    Args:
        dataset: Samples by position.
        batch_size: Samples a batch.
        workers: Loader processes.
        pinned: Whether batches are put into page-locked memory.
        generator: Decides the order, anew at each pass.
        collate: Samples → batch.
        group: Processes that share each batch: this one loads its part alone.
    """

    def __init__(
        self,
        dataset: Dataset[SampleT],
        *,
        batch_size: int,
        workers: int,
        generator: torch.Generator,
        collate: Callable[[list[SampleT]], BatchT],
        pinned: bool = False,
        group: Group | None = None,
    ) -> None:
        group = group or Group()
        self._order = _Order(len(dataset), batch_size, workers, generator, group)
        self._workers: dict[int, Randomness] = {}
        self._loader: DataLoader[SampleT] = DataLoader(
            dataset,
            batch_sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
            generator=generator,
            collate_fn=_Marked(collate),
            worker_init_fn=partial(_begin_apart, group.rank),
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[BatchT]:
        """What is left of a pass: all of it, but for the first behind ``take_up``."""
        loaded: Any
        for loaded in self._loader:
            if loaded is None:
                continue
            batch, left = loaded
            if left is not None:
                worker, randomness = left
                self._workers[worker] = randomness
            self._order.done += 1
            yield batch

    def state(self) -> State:
        """Where the pass stands, as plain data."""
        workers = {worker: state.plain() for worker, state in self._workers.items()}
        return {**self._order.state(), "workers": workers}

    def take_up(self, state: State) -> None:
        """Go on where another loader of the same data and settings stood; before the first pass."""
        self._workers = {worker: Randomness.of(plain) for worker, plain in state["workers"].items()}
        self._loader.worker_init_fn = _Resumed(dict(self._workers))
        self._order.take_up(state)


class _Order(BatchSampler):
    """Positions of each batch, as a shuffling ``DataLoader`` of torch has them.

    Attributes:
        done: Batches of the pass that were given out and used.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        workers: int,
        generator: torch.Generator,
        group: Group,
    ) -> None:
        sampler = RandomSampler(range(length), generator=generator)
        super().__init__(sampler, batch_size, drop_last=True)
        self._generator, self._loaders, self._group = generator, workers, group
        self._begin: torch.Tensor | None = None
        self._next: torch.Tensor | None = None
        self._skipped = self.done = 0

    def __iter__(self) -> Iterator[list[int]]:
        if self._next is not None:  # behind what a new loader has drawn
            self._generator.set_state(self._next)
        self._begin, self._next = self._generator.get_state(), None
        self.done, self._skipped = self._skipped, 0
        batches = super().__iter__()
        for _ in range(self.done):
            next(batches)
        # empty ones, so that each batch meets the process that it would have met
        yield from ([] for _ in range(self.done % self._loaders if self._loaders else 0))
        yield from map(self._group.share, batches)

    def state(self) -> State:
        """What the order follows from, and how far it has been used."""
        return {"begin": self._begin, "done": self.done}

    def take_up(self, state: State) -> None:
        """Have the next pass be the rest of one, or the one behind a pass that was complete."""
        self._next, self._skipped = state["begin"], state["done"]
        if self._skipped == len(self):
            self._skipped = 0
            self._generator.set_state(state["begin"])
            for _ in super().__iter__():
                pass
            # a new loader draws a seed for its processes, those of an old one have theirs
            self._next = self._generator.get_state() if self._loaders else None


class _Marked:
    """Joins samples, and adds in a loader process how its random generators were left."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        if not samples:
            return None
        batch, worker = self._collate(samples), get_worker_info()
        return batch, (worker.id, Randomness.of_worker()) if worker is not None else None


def _begin_apart(rank: int, worker: int) -> None:
    """Begin a loader process of one of several that load shares of a batch."""
    outlive_sigterm(worker)
    if rank:  # torch has seeded those of the same number alike
        Randomness.apart(rank, torch.initial_seed())


class _Resumed:
    """Puts a new loader process where the one of the same number stood."""

    def __init__(self, states: Mapping[int, Randomness]) -> None:
        self._states = states

    def __call__(self, worker: int) -> None:
        outlive_sigterm(worker)
        if worker in self._states:
            self._states[worker].put()
