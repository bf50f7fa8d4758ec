"""What the loaders share: lists of files, checked and made into splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bob.catalog.data_root import data_root
from bob.datasets.base import AnySplit, ClassificationData
from bob.datasets.images import Files, ImageSplit
from bob.errors import BobError, some


def refused(message: str) -> BobError:
    """Error for data that are there but not as they should be."""
    return BobError(message, kind="dataset")


def lines(file: Path) -> list[str]:
    """The lines of a text file, stripped; empty ones too, so that positions are line numbers.

    Raises:
        BobError: It cannot be read or is not text.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise refused(f"Cannot read {file}: {error}.") from None


@dataclass(frozen=True)
class Listing:
    """Image files and their classes.

    Attributes:
        names: Relative to the data root, with forward slashes.
        labels: Class indices, one a file.
    """

    names: Sequence[str]
    labels: Sequence[int]

    def part(self, rows: NDArray[np.int64]) -> Listing:
        """Some of the files, in the order of their positions given."""
        return Listing([self.names[row] for row in rows], [self.labels[row] for row in rows])

    def first_of_each(self, count: int, what: str) -> Listing:
        """The first files of each class; see ``first_of_each``."""
        return self.part(_rows_of_each(np.array(self.labels), count, what)) if count else self

    def split(self) -> ImageSplit:
        """The files as a split, decoded when asked for."""
        return ImageSplit(
            source=Files(data_root(), self.names),
            targets=torch.tensor(self.labels, dtype=torch.int64),
        )


def first_of_each(split: ImageSplit, count: int, what: str) -> ImageSplit:
    """The first images of each class, in their order.

    Args:
        split: Images and class indices.
        count: Images of each class; 0 for all.
        what: The split, for messages.

    Raises:
        BobError: A class has fewer.
    """
    return split.part(_rows_of_each(split.targets.numpy(), count, what)) if count else split


def _rows_of_each(labels: NDArray[np.int64], count: int, what: str) -> NDArray[np.int64]:
    rows = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        found = np.flatnonzero(labels == label)
        if len(found) < count:
            raise refused(f"{what} has {len(found)} images of class {label}, not {count}.")
        rows.append(found[:count])
    return np.sort(np.concatenate(rows))


def dataset_digest(class_names: Sequence[str], splits: Sequence[AnySplit]) -> str:
    """Hex SHA-256 of class names, lists of images and targets."""
    digest = hashlib.sha256("\n".join(class_names).encode())
    for split in splits:
        digest.update(split.digest.encode())
        digest.update(split.targets.contiguous().numpy().tobytes())
    return digest.hexdigest()


def assembled(
    what: str, class_names: Sequence[str], train: AnySplit, test: AnySplit
) -> ClassificationData:
    """A checked classification dataset.

    Args:
        what: The dataset, for messages.
        class_names: One name per class.
        train: To learn from.
        test: To score on.

    Raises:
        BobError: There are fewer than two classes, a split is empty, a label is no class's, or a
            class is tested that nothing was learnt of.
    """
    if len(class_names) < 2:
        raise refused(
            f"{what} holds {len(class_names)} class: there is nothing to tell apart. Unpack the "
            "whole dataset."
        )
    for name, split in (("train", train), ("test", test)):
        if not len(split):
            raise refused(f"{what}: the {name} split holds no images. Unpack the whole dataset.")
        low, high = int(split.targets.min()), int(split.targets.max())
        if low < 0 or high >= len(class_names):
            raise refused(
                f"{what}: the {name} split has label {low if low < 0 else high}, and there are "
                f"{len(class_names)} classes. Restore the owners' lists."
            )
    unseen = sorted(set(test.targets.unique().tolist()) - set(train.targets.unique().tolist()))
    if unseen:
        raise refused(
            f"{what}: no train image of {some(class_names[index] for index in unseen)}, which the "
            "test split holds. Unpack the whole dataset."
        )
    return ClassificationData(
        sha256=dataset_digest(class_names, (train, test)),
        class_names=tuple(class_names),
        train=train,
        test=test,
    )
