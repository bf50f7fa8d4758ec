"""What a dataset looks like to a task, and how an entry becomes one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bob.catalog.data_root import data_root, missing
from bob.catalog.schema import DatasetEntry
from bob.datasets.detection import DetectionData, DetectionShiftData
from bob.datasets.images import ImageSplit
from bob.datasets.ranges import with_ranges
from bob.errors import BobError
from bob.objects import import_object


@dataclass(frozen=True)
class Split:
    """Labelled images in a fixed order, in memory.

    Attributes:
        images: RGB, uint8, ``(n, 3, height, width)``.
        targets: Class indices, int64, ``(n,)``.
    """

    images: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the images' shape and pixels, in their order; labels do not count."""
        images = self.images.contiguous()
        digest = hashlib.sha256(repr(tuple(images.shape)).encode())
        digest.update(images.view(-1).numpy().data)
        return digest.hexdigest()

    def pil(self, index: int) -> Image.Image:
        """One image."""
        return Image.fromarray(self.images[index].permute(1, 2, 0).contiguous().numpy())

    def picture(self, index: int) -> torch.Tensor:
        """One image as it is, uint8 ``(3, height, width)``."""
        return self.images[index]

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> Split:
        """Some of the images, in the order of their positions given."""
        picks = torch.as_tensor(rows, dtype=torch.int64)
        return Split(self.images[picks], self.targets[picks])

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was unreadable: nothing, in memory."""
        return ()


AnySplit = Split | ImageSplit


@dataclass(frozen=True, kw_only=True)
class ClassificationData:
    """A classification dataset.

    Attributes:
        sha256: Digest of everything the splits are made from.
        class_names: One name per class.
        train: What a protocol may learn from.
        test: Read for scores; no choice is made on it.
        notes: What a reader of the scores should know of the data.
    """

    sha256: str
    class_names: tuple[str, ...]
    train: AnySplit
    test: AnySplit
    notes: tuple[str, ...] = ()

    @property
    def test_size(self) -> int:
        """Images that scores are read on."""
        return len(self.test)


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Test images of the source's classes from elsewhere.

    Attributes:
        name: Unique within the dataset, such as ``gaussian_noise/3`` or ``imagenet_r``.
        split: Images, with targets among the source's classes.
        group: Shifts of one group are averaged before groups are, such as one corruption's
            severities; its name is a metric's.
        severity: Position within the group, 0 where there is none.
        classes: Source classes the shift holds, ascending; logits of the others are masked. Empty
            when it holds all of them.
        step: Where the images are every so-manieth of the source's test split, changed, counted
            from its first: how-manieth. 0 for other images.
    """

    name: str
    split: AnySplit
    group: str
    severity: int = 0
    classes: tuple[int, ...] = ()
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class ShiftData(ClassificationData):
    """A source to learn from and test on, and shifted targets to read the same classifier on."""

    shifts: tuple[Shift, ...]


@dataclass(frozen=True)
class Relevance:
    """What a retrieval may and must find for one query, as ascending database positions.

    Attributes:
        easy: Clearly the query's class or object.
        hard: The same, but difficult; empty where the dataset does not tell.
        junk: Neither right nor wrong: taken out of the ranking before it is scored.
    """

    easy: torch.Tensor
    hard: torch.Tensor
    junk: torch.Tensor


Setting = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, kw_only=True)
class RetrievalData:
    """Queries, a database, and which belongs to which.

    Attributes:
        sha256: Digest of everything the splits are made from.
        class_names: One name per class of queries and database.
        queries: Images to search with.
        database: Images to search in.
        relevance: One entry per query.
        graded: Whether easy, medium and hard are told apart.
        notes: What a reader of the scores should know of the data.
    """

    sha256: str
    class_names: tuple[str, ...]
    queries: AnySplit
    database: AnySplit
    relevance: tuple[Relevance, ...]
    graded: bool = False
    notes: tuple[str, ...] = ()

    @property
    def test_size(self) -> int:
        """Number of queries."""
        return len(self.queries)


@dataclass(frozen=True, kw_only=True)
class MultilabelData:
    """Images that may show any number of findings.

    Attributes:
        sha256: Digest of everything the splits are made from.
        class_names: One name per label.
        train: Targets are float32 ``(n, labels)`` of 0 and 1.
        test: Read for scores.
        notes: What a reader of the scores should know of the data.
    """

    sha256: str
    class_names: tuple[str, ...]
    train: AnySplit
    test: AnySplit
    notes: tuple[str, ...] = ()

    @property
    def test_size(self) -> int:
        """Images that scores are read on."""
        return len(self.test)


Data = ClassificationData | MultilabelData | RetrievalData | DetectionData | DetectionShiftData


def load_dataset(entry: DatasetEntry) -> Data:
    """Load the dataset of an entry and check that it is the one the entry describes.

    Raises:
        BobError: The data are not there (``kind`` is ``unavailable``), the loader is unknown, or
            the data differ from the entry's digest or sizes.
    """
    absent = missing(entry)
    if absent:
        offered = entry.download is not None and entry.download.files
        fetched = (
            f"`bob datasets get {entry.key}` fetches what it can; by hand: " if offered else ""
        )
        raise BobError(
            f"Dataset {entry.key!r} is not under {data_root()}: no {', no '.join(absent)}. "
            f"{fetched}{entry.obtain} Another data root is named in BOB_DATA.",
            kind="unavailable",
        )
    loader = import_object(entry.loader, what=f"dataset {entry.key!r}")
    data: Data = with_ranges(loader(**entry.options))
    if entry.sha256 and data.sha256 != entry.sha256:
        raise BobError(
            f"Dataset {entry.key!r}: the data have SHA-256 {data.sha256[:12]}..., the catalog says "
            f"{entry.sha256[:12]}.... Scores on other data are not comparable: restore the data, "
            "or give the new version an entry of its own.",
            kind="dataset",
        )
    measured = (len(data.class_names), data.test_size)
    said = (entry.classes or measured[0], entry.test_size or measured[1])
    if measured != said:
        raise BobError(
            f"Dataset {entry.key!r} has {measured[0]} classes and {measured[1]} test images; its "
            f"entry says {said[0]} and {said[1]}.",
            kind="dataset",
        )
    if entry.train_size and isinstance(data, ClassificationData | MultilabelData):
        count = len(data.train)
        if count != entry.train_size:
            raise BobError(
                f"Dataset {entry.key!r} has {count} train images; its entry says "
                f"{entry.train_size}. Unpack it again.",
                kind="dataset",
            )
    return data
