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
from bob.datasets.images import ImageSplit
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
        number: Of the request; what comes of an earlier one, which was given up, is thrown away.
        split: Images.
        what: Backbone, dataset and split, for messages.
        view: Augmentation; none for the plain images.
    """

    number: int
    split: AnySplit
    what: str
    view: View | None


def extract_for(
    job: AnyJob,
    split: AnySplit,
    *,
    what: str,
    number: int,
    view: View | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[NDArray[np.float32]]:
    """Features of a split in its order, on all devices of a job; see ``extract``.

    Args:
        job: Gives backbone, device and helpers.
        split: Images.
        what: Backbone, dataset and split, for messages.
        number: Of the request, another one each time.
        view: Augmentation; none for the plain images.
        advance: Receives the number of images done.
    """
    crew = job.crew
    if crew is None:
        yield from _extract(job, split, what=what, view=view, advance=advance)
        return
    done = 0
    crew.tell(Wanted(number, split, what, view))
    with threads_among(crew.size):
        own = _extract(job, split, what=what, view=view, ranks=crew.size)
        for batch in range(len(batches_of(split, BATCH))):
            rank = batch % crew.size
            features = next(own) if rank == 0 else _heard(crew, rank, number)
            done += len(features)
            advance(done)
            yield features
        for _ in own:  # what it notes at its end
            pass
    for rank in range(1, crew.size):
        damage = _heard(crew, rank, number)
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
            wanted: Wanted = connection.recv()
            split = wanted.split
            for features in _extract(
                job, split, what=wanted.what, view=wanted.view, rank=rank, ranks=size
            ):
                connection.send((wanted.number, features))
            damage = split.damage if isinstance(split, ImageSplit) else None
            connection.send((wanted.number, damage))


def _heard(crew: Crew, rank: int, number: int) -> Any:
    """What a helper says of a request."""
    told, words = crew.hear(rank)
    while told != number:
        told, words = crew.hear(rank)
    return words


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
