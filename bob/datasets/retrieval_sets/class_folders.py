"""Datasets of one folder per class: CUB-200-2011, INSTRE-S1, ObjectNet, iNaturalist.

Source: hsouri/bob-retrieval. Of each class's files, sorted by name and cut to the first ``cap``,
the first fifth are queries and the others the database; every database image of a query's class
is right.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bob.catalog.data_root import located
from bob.datasets.base import RetrievalData
from bob.datasets.images import Files, ImageSplit
from bob.datasets.relevance import class_relevance, first_fifth
from bob.datasets.retrieval_sets.parts import image_names, retrieval_data
from bob.errors import BobError


def load(*, folder: str, cap: int | None = None) -> RetrievalData:
    """Load a folder of class folders.

    Args:
        folder: Under the data root; ``a|b`` is the first that exists.
        cap: Images per class to use, the first by name; all by default.

    Raises:
        BobError: The folder is not there (``kind`` is ``unavailable``), a class folder holds no
            image, or no class has images enough for a query.
    """
    root = located(folder)
    classes = class_folders(root)
    names: list[str] = []
    targets: list[int] = []
    for target, name in enumerate(classes):
        images = image_names(root / name)
        if not images:
            raise BobError(
                f"Class folder {root / name} holds no image. Unpack it again, or take it away if "
                "it is none of the dataset's.",
                kind="dataset",
            )
        # Names past the cap would be left out anyway.
        names += [f"{name}/{image}" for image in images[:cap]]
        targets += [target] * len(images[:cap])
    labels = torch.tensor(targets, dtype=torch.int64)
    queries, database = first_fifth(names, labels, cap=cap)
    return retrieval_data(
        class_names=classes,
        queries=_part(root, names, labels, queries),
        database=_part(root, names, labels, database),
        relevance=class_relevance(labels[queries], labels[database]),
    )


def class_folders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
        BobError: There is none.
    """
    names = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not names:
        raise BobError(f"{root} holds no class folders.", kind="dataset")
    return names


def _part(root: Path, names: list[str], targets: torch.Tensor, rows: torch.Tensor) -> ImageSplit:
    picked = [names[row] for row in rows.tolist()]
    return ImageSplit(source=Files(root, picked), targets=targets[rows])
