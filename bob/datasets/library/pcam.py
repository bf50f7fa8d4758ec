"""PatchCamelyon: patches of histology in HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bob.catalog.data_root import located
from bob.datasets.base import ClassificationData
from bob.datasets.images import ImageSplit
from bob.datasets.library.common import assembled, refused
from bob.errors import BobError
from bob.file_digests import digests_of_files

CLASSES = ("no tumour", "tumour")


@dataclass(frozen=True)
class Patches:
    """Rows of the dataset ``x`` of an HDF5 file, opened for each: handles do not survive a fork.

    Attributes:
        count: Rows.
    """

    file: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """File and row."""
        return f"{self.file}, row {index}"

    def open(self, index: int) -> Image.Image:
        """One row as an image."""
        with _opened(self.file) as content:
            return Image.fromarray(np.asarray(content["x"][index]))

    def mode(self, index: int) -> str:
        """RGB."""
        return "RGB"

    def facts(self) -> Iterator[str]:
        """Name and digest of the file, and the row."""
        (sha256,) = digests_of_files([self.file])
        return (f"{self.file.name} {sha256} {index}" for index in range(self.count))


def load() -> ClassificationData:
    """Load PatchCamelyon: the official train and test splits; valid is left alone.

    Raises:
        BobError: It is not there, or h5py is not installed (``kind`` is ``unavailable``); or a file
            is not as published.
    """
    return assembled("PatchCamelyon", CLASSES, _split("train"), _split("test"))


def _split(part: str) -> ImageSplit:
    x, y = (located(f"pcam/camelyonpatch_level_2_split_{part}_{name}.h5") for name in "xy")
    try:
        with _opened(x) as images, _opened(y) as labels:
            count = len(images["x"])
            targets = np.asarray(labels["y"]).reshape(-1).astype(np.int64)
    except (OSError, KeyError) as error:
        raise refused(
            f"{x} or {y} is not as published: {error}. Download and unpack it again."
        ) from None
    if len(targets) != count:
        raise refused(f"{x} holds {count} images and {y} {len(targets)} labels.")
    return ImageSplit(source=Patches(x, count), targets=torch.from_numpy(targets))


def _opened(file: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise BobError(
            "PatchCamelyon is stored in HDF5, which needs h5py: pip install h5py",
            kind="unavailable",
        ) from None
    return h5py.File(file, "r")
