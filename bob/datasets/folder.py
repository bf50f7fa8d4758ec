"""A user's own images, in class folders; see ``bob.catalog.image_folder`` for the layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bob.catalog.image_folder import FolderContent, ImageFile, read_folder
from bob.catalog.value_range import parse_range
from bob.datasets.base import ClassificationData
from bob.datasets.images import Files, ImageSplit
from bob.datasets.ranges import with_ranges
from bob.file_digests import UNREADABLE


def load(
    *,
    path: str,
    test: float | None = None,
    seed: int | None = None,
    split: str = "",
    range: str = "",
) -> ClassificationData:
    """Load a folder. Images stay on disk.

    Args:
        path: The folder.
        test: Share held back to test on, where the folder has no test split.
        seed: Of that draw.
        split: Folder to score on, where there are several.
        range: Values that are black and white in images of more than 8 bits, as ``LOW:HIGH``;
            measured unless given.

    Raises:
        BobError: The folder is not there or has another layout.
    """
    root = Path(path)
    content = read_folder(root, test=test, seed=seed, split=split)
    data = ClassificationData(
        sha256=content.sha256,
        class_names=content.class_names,
        train=_split(root, content.train),
        test=_split(root, content.test),
        notes=(*content.remarks, *leakage(duplicates(content), len(content.test))),
    )
    return with_ranges(data, parse_range(range))


def _split(root: Path, images: Sequence[ImageFile]) -> ImageSplit:
    return ImageSplit(
        source=Files(root, [image.path for image in images]),
        targets=torch.tensor([image.label for image in images], dtype=torch.int64),
    )


def leakage(copies: int, total: int) -> tuple[str, ...]:
    """What to say of test images that were learnt from."""
    if not copies:
        return ()
    are = "image is an exact copy" if copies == 1 else "images are exact copies"
    return (
        f"leakage: {copies} of {total} test {are} of train images; take the copies out, or the "
        "score rewards memory",
    )


def duplicates(content: FolderContent) -> int:
    """Test images that are, byte for byte, in the train split too."""
    train, test = content.digests
    known = set(train) - {UNREADABLE}
    return sum(sha256 in known for sha256 in test)
