"""What the retrieval datasets share: folders under the data root, files, and how they are seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from bob.catalog.class_tree import is_image_name
from bob.datasets.base import Relevance, RetrievalData
from bob.datasets.images import ImageSource, ImageSplit
from bob.datasets.pixel_values import rgb
from bob.errors import BobError, some

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Seen:
    """Images of another source, cropped and made small before anything else is done to them.

    Attributes:
        source: Where the images are.
        thumbnail: Longest side they are reduced to (Lanczos); smaller ones stay as they are. 0 for
            their own size.
        boxes: Left, upper, right and lower edge of what is kept of each, in pixels; empty for
            whole images.
    """

    source: ImageSource
    thumbnail: int = 0
    boxes: Sequence[Box] = ()

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """As the source calls it."""
        return self.source.name(index)

    def open(self, index: int) -> Image.Image:
        """What is kept of an image."""
        image = self.source.open(index)
        if self.boxes:
            image = image.crop(tuple(round(edge) for edge in self.boxes[index]))
        if self.thumbnail:
            image = rgb(image)
            image.thumbnail((self.thumbnail, self.thumbnail), Image.Resampling.LANCZOS)
        return image

    def mode(self, index: int) -> str:
        """As of the source; RGB of one made small."""
        return "RGB" if self.thumbnail else self.source.mode(index)

    def facts(self) -> Iterator[str]:
        """The source's lines, and what is done to each image."""
        for index, line in enumerate(self.source.facts()):
            box = f" box {self.boxes[index]}" if self.boxes else ""
            yield f"{line}{box} thumbnail {self.thumbnail}"


def is_image(name: str) -> bool:
    """Whether a file name is an image's; hidden files are none."""
    return not name.startswith(".") and is_image_name(name)


def image_names(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image(entry.name))


def check_files(folder: Path, wanted: Iterable[str], what: str) -> None:
    """Look whether files that a ground truth names are there.

    Raises:
        BobError: Some are not; names the first of them. ``kind`` is ``dataset``.
    """
    absent = [name for name in wanted if not (folder / name).is_file()]
    if absent:
        raise BobError(
            f"{what}: no file {some(folder / name for name in absent)}, which the ground truth "
            "names. Unpack the images again, all of them.",
            kind="dataset",
        )


def retrieval_data(
    *,
    class_names: Iterable[str],
    queries: ImageSplit,
    database: ImageSplit,
    relevance: Sequence[Relevance],
    graded: bool = False,
) -> RetrievalData:
    """The parts of a dataset, with the digest of them all."""
    digest = hashlib.sha256((queries.digest + database.digest).encode())
    for entry in relevance:
        for positions in (entry.easy, entry.hard, entry.junk):
            digest.update(len(positions).to_bytes(8, "little"))
            digest.update(positions.to(torch.int64).contiguous().numpy().tobytes())
    return RetrievalData(
        sha256=digest.hexdigest(),
        class_names=tuple(class_names),
        queries=queries,
        database=database,
        relevance=tuple(relevance),
        graded=graded,
    )
