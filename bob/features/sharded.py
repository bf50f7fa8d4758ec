"""Features of a split from several devices: each takes every so-manieth batch.

Batches are those of one device, so that every row is what one device would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bob.backbones import Backbone
from bob.datasets import AnySplit, Data
from bob.datasets.images import Damage, ImageSplit
from bob.distributed.crew import Crew
from bob.distributed.group import batches_of
from bob.distributed.strategy import threads_among
from bob.features.extract import BATCH, View, extract
from bob.job import Job
from bob.protocols import Recipe
from bob.training.remembered import remembered

AnyJob = Job[Recipe, Data, Backbone]


@dataclass(frozen=True)
class Wanted:
    """What helpers are asked for.

    Attributes:
        split: Images.
        what: Backbone, dataset and split, for messages.
        view: Augmentation; none for the plain images.
    """

    split: AnySplit
    what: str
    view: View | None


@dataclass(frozen=True)
class _Done:
    """A request is met, or given up.

    Attributes:
        damage: What was found of a split of images.
    """

    damage: Damage | None


def extract_for(
    job: AnyJob,
    split: AnySplit,
    *,
    what: str,
    view: View | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[NDArray[np.float32]]:
    """Features of a split in its order, on all devices of a job; see ``extract``.

    Args:
        job: Gives backbone, device and helpers.
        split: Images.
        what: Backbone, dataset and split, for messages.
        view: Augmentation; none for the plain images.
        advance: Receives the number of images done.
    """
    crew = job.crew
    if crew is None:
        yield from _extract(job, split, what=what, view=view, advance=advance)
        return
    done = 0
    _give_up(crew)
    crew.tell(Wanted(split, what, view))
    crew.asked = True
    with threads_among(crew.size):
        own = _extract(job, split, what=what, view=view, ranks=crew.size)
        for batch in range(len(batches_of(split, BATCH))):
            rank = batch % crew.size
            features = next(own) if rank == 0 else _heard(crew, rank)
            done += len(features)
            advance(done)
            yield features
        for _ in own:  # what it notes at its end
            pass
    found = [_heard(crew, rank) for rank in range(1, crew.size)]
    crew.asked = False
    for damage in found:
        if isinstance(split, ImageSplit):
            split.note(damage)


def serve(connection: Connection, rank: int, size: int, job: AnyJob) -> None:
    """Extract what is asked for until nobody asks any more.

    Args:
        connection: Brings requests, and takes arrays and what was found damaged.
        rank: Which of the devices this is.
        size: How many there are.
        job: Gives backbone and device.

    Raises:
        EOFError: Nobody asks any more.
    """
    with threads_among(size):
        while True:
            wanted: Wanted | None = connection.recv()
            if wanted is None:  # the last request was given up when it had been met
                continue
            split = wanted.split
            for features in _extract(
                job, split, what=wanted.what, view=wanted.view, rank=rank, ranks=size
            ):
                if connection.poll():
                    break
                connection.send(features)
            connection.send(_Done(split.damage if isinstance(split, ImageSplit) else None))


def _give_up(crew: Crew) -> None:
    """Have helpers end a request whose features nobody has taken to their end.

    What they say is heard first: they would wait for that, and the next request for them.
    """
    if not crew.asked:
        return
    crew.tell(None)
    for rank in range(1, crew.size):
        while not isinstance(crew.hear(rank), _Done):
            pass
    crew.asked = False


def _heard(crew: Crew, rank: int) -> Any:
    """What a helper says of a request: features, or what it has found damaged."""
    words = crew.hear(rank)
    return words.damage if isinstance(words, _Done) else words


def _extract(
    job: AnyJob, split: AnySplit, *, what: str, view: View | None, rank: int = 0, ranks: int = 1,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[NDArray[np.float32]]:  # fmt: skip
    return extract(
        job.backbone,
        split,
        fabric=job.fabric,
        what=what,
        workers=job.workers,
        view=view,
        batches=batches_of(split, BATCH, rank=rank, ranks=ranks),
        advance=advance,
        counts=remembered(job, "extract"),
    )
