"""One folder a class: ``<split>/<class>/<image>``, read by torchvision's folder reader."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchvision.datasets.folder import find_classes, make_dataset

from bob.catalog.class_tree import image_endings
from bob.catalog.data_root import data_root, located
from bob.datasets.base import ClassificationData
from bob.datasets.library.common import Listing, assembled, refused
from bob.errors import some


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders: by number where all of them are numbers, else by name.

    Raises:
        BobError: There is none.
    """
    try:
        names = [name for name in find_classes(folder)[0] if not name.startswith((".", "__"))]
    except OSError:
        names = []
    if not names:
        raise refused(f"{folder} holds no class folders, where {folder}/<class>/<image> is wanted.")
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def listing(folder: Path, classes: Mapping[str, int]) -> Listing:
    """The images of some class folders, by class and name.

    Args:
        folder: Holds the class folders; below the data root.
        classes: Index by name of the folder.

    Raises:
        BobError: A class folder is missing or holds no image.
    """
    samples = make_dataset(folder, dict(classes), tuple(image_endings()), allow_empty=True)
    samples.sort(key=lambda sample: sample[1])  # torchvision counts 1, 10, 2
    present = {label for _, label in samples}
    empty = [str(folder / name) for name, index in classes.items() if index not in present]
    if empty:
        raise refused(
            f"No image in {some(empty)}. Unpack the dataset again, or take the class out of every "
            "split."
        )
    start = len(os.path.join(data_root(), ""))
    names = [path[start:].replace(os.sep, "/") for path, _ in samples]
    return Listing(names, [label for _, label in samples])


def load(*, train: str, test: str) -> ClassificationData:
    """Load a dataset of two folders that hold one folder a class.

    Args:
        train: Folder to learn from, below the data root; ``a|b`` is the first that is there.
        test: Folder to score on.

    Raises:
        BobError: A folder is missing (``kind`` is ``unavailable``), a class folder holds no
            image, or the two hold different classes.
    """
    learn, score = located(train), located(test)
    names = class_folders(learn)
    same_folders(names, class_folders(score), learn, score)
    classes = {name: index for index, name in enumerate(names)}
    return assembled(
        str(learn.parent),
        names,
        listing(learn, classes).split(),
        listing(score, classes).split(),
    )


def same_folders(
    first: Sequence[str], second: Sequence[str], first_folder: Path, second_folder: Path
) -> None:
    """Check that two folders hold the same class folders.

    Raises:
        BobError: They do not.
    """
    if set(first) != set(second):
        lone = [f"{first_folder / name}" for name in first if name not in set(second)]
        lone += [f"{second_folder / name}" for name in second if name not in set(first)]
        raise refused(
            f"{first_folder} and {second_folder} hold different classes; only one of them has "
            f"{some(lone)}. Unpack the dataset again."
        )
