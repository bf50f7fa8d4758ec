"""What a dataset looks like to a task, and how an entry becomes one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bob.catalog.schema import DatasetEntry
from bob.errors import BobError
from bob.objects import import_object


@dataclass(frozen=True)
class Split:
    """Labelled images in a fixed order.

    Attributes:
        images: RGB, uint8, ``(n, 3, height, width)``.
        targets: Class indices, int64, ``(n,)``.
    """

    images: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, kw_only=True)
class ClassificationData:
    """A classification dataset.

    Attributes:
        sha256: Digest of everything the splits are made from.
        class_names: One name per class.
        train: What a protocol may learn from.
        test: Read for scores; no choice is made on it.
    """

    sha256: str
    class_names: tuple[str, ...]
    train: Split
    test: Split


def load_dataset(entry: DatasetEntry) -> ClassificationData:
    """Load the dataset of an entry and check that it is the one the entry describes.

    Raises:
        BobError: The loader is unknown or the data differ from the entry's digest or sizes.
    """
    loader = import_object(entry.loader, what=f"dataset {entry.key!r}")
    data: ClassificationData = loader(**entry.options)
    if data.sha256 != entry.sha256:
        raise BobError(
            f"Dataset {entry.key!r}: the data have SHA-256 {data.sha256[:12]}..., the catalog says "
            f"{entry.sha256[:12]}.... Scores on other data are not comparable: restore the data, "
            "or give the new version an entry of its own.",
            kind="dataset",
        )
    found = (len(data.class_names), len(data.test))
    if found != (entry.classes, entry.test_size):
        raise BobError(
            f"Dataset {entry.key!r} has {found[0]} classes and {found[1]} test images; its entry "
            f"says {entry.classes} and {entry.test_size}.",
            kind="dataset",
        )
    return data
