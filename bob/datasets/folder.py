"""A user's own images, in class folders; see ``bob.catalog.image_folder`` for the layouts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from bob.catalog.image_folder import FolderContent, ImageFile, read_folder
from bob.datasets.base import ClassificationData
from bob.datasets.images import Files, ImageSplit
from bob.hashing import digest_of_file


def load(
    *, path: str, test: float | None = None, seed: int | None = None, split: str = ""
) -> ClassificationData:
    """Load a folder. Images stay on disk.

    Args:
        path: The folder.
        test: Share held back to test on, where the folder has no test split.
        seed: Of that draw.
        split: Folder to score on, where there are several.

    Raises:
        BobError: The folder is not there or has another layout.
    """
    root = Path(path)
    content = read_folder(root, test=test, seed=seed, split=split)
    return ClassificationData(
        sha256=content.sha256,
        class_names=content.class_names,
        train=_split(root, content.train),
        test=_split(root, content.test),
        notes=(*content.remarks, *leakage(duplicates(root, content), len(content.test))),
    )


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


@lru_cache(maxsize=8)
def duplicates(root: Path, content: FolderContent) -> int:
    """Test images that are, byte for byte, in the train split too.

    Only files whose size occurs in both splits are read.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for image in content.train:
        by_size[image.size].append(image.path)
    alike = [image for image in content.test if image.size in by_size]
    known = {
        size: {_digest(root / path) for path in by_size[size]}
        for size in {image.size for image in alike}
    }
    digests = ((image.size, _digest(root / image.path)) for image in alike)
    return sum(bool(digest) and digest in known[size] for size, digest in digests)


def _digest(path: Path) -> str:
    try:
        return digest_of_file(path)
    except OSError:
        return ""  # an unreadable file is told when it is decoded
