"""Datasets that torchvision reads, in the folders it puts them into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision import datasets

from bob.catalog.data_root import data_root
from bob.datasets.base import ClassificationData
from bob.datasets.images import Arrays, ImageSplit
from bob.datasets.library.common import Listing, assembled, first_of_each, refused
from bob.datasets.subsets import stratified
from bob.errors import BobError

_LISTS: dict[str, tuple[str, ...]] = {
    "DTD": ("_image_files", "_labels"),
    "EuroSAT": ("samples",),
    "FGVCAircraft": ("_image_files", "_labels"),
    "Flowers102": ("_image_files", "_labels"),
    "Food101": ("_image_files", "_labels"),
    "OxfordIIITPet": ("_images", "_labels"),
    "StanfordCars": ("_samples",),
}
"""Attributes that hold files and labels, or pairs of them."""


def load(
    *, name: str, train: str, test: str, train_per_class: int = 0, test_per_class: int = 0
) -> ClassificationData:
    """Load a dataset with official splits, or a part of them.

    Args:
        name: Class in ``torchvision.datasets``.
        train: Its split to learn from, such as ``train``; ``train+val`` is both.
        test: Its split to score on.
        train_per_class: Images of each class to learn from, the first in the owners' order; 0 for
            all.
        test_per_class: The same of those to score on.

    Raises:
        BobError: The dataset is not there (``kind`` is ``unavailable``), not as published, or has
            fewer images of a class.
    """
    parts = {part: _read(name, split=part) for part in (*train.split("+"), test)}
    lists = {part: _listed(name, dataset) for part, dataset in parts.items()}
    classes = {part: _classes(dataset, lists[part].labels) for part, dataset in parts.items()}
    names = classes[test]
    for part, part_names in classes.items():
        if part_names != names:
            odd = sorted(set(names) ^ set(part_names)) or ["their order"]
            raise refused(
                f"{name}: splits {part} and {test} differ in their classes ({odd[0]}). Restore the "
                "owners' lists."
            )
    learn = Listing(
        [path for part in train.split("+") for path in lists[part].names],
        [label for part in train.split("+") for label in lists[part].labels],
    )
    learn = learn.first_of_each(train_per_class, f"{name}'s split {train}")
    score = lists[test].first_of_each(test_per_class, f"{name}'s split {test}")
    return assembled(name, names, learn.split(), score.split())


def load_unsplit(
    *, name: str, test_share: float, train_per_class: int = 0, test_per_class: int = 0
) -> ClassificationData:
    """Load a dataset without official splits, and split each class by a fixed draw.

    Args:
        name: Class in ``torchvision.datasets``.
        test_share: Of each class, to score on; see ``bob.datasets.subsets.stratified``.
        train_per_class: Images of each class to learn from, the first of its part; 0 for all.
        test_per_class: The same of those to score on.

    Raises:
        BobError: As of ``load``.
    """
    dataset = _read(name)
    every = _listed(name, dataset)
    learn, score = map(every.part, stratified(torch.tensor(every.labels), test_share))
    learn = learn.first_of_each(train_per_class, f"{name}'s part to learn from")
    score = score.first_of_each(test_per_class, f"{name}'s part to score on")
    return assembled(name, dataset.classes, learn.split(), score.split())


def load_cifar(
    *, name: str, train_per_class: int = 0, test_per_class: int = 0
) -> ClassificationData:
    """Load CIFAR-10 or CIFAR-100, or a part of it; torchvision checks each file's MD5.

    Args:
        name: ``CIFAR10`` or ``CIFAR100``.
        train_per_class: As of ``load``.
        test_per_class: As of ``load``.

    Raises:
        BobError: As of ``load``.
    """
    splits = {}
    for part, count in (("train", train_per_class), ("test", test_per_class)):
        dataset = _read(name, train=part == "train")
        whole = ImageSplit(
            source=Arrays(dataset.data, f"{name} {part}"), targets=torch.tensor(dataset.targets)
        )
        splits[part] = first_of_each(whole, count, f"{name}'s {part} split")
        names = dataset.classes
    return assembled(name, names, splits["train"], splits["test"])


def _read(name: str, **options: object) -> Any:
    try:
        return getattr(datasets, name)(str(data_root()), download=False, **options)
    except Exception as error:  # each class parses in its own way
        if "not found" in str(error) and "corrupted" not in str(error):
            raise BobError(
                f"torchvision finds no {name} under {data_root()}: unpack it into the folders that "
                f"torchvision.datasets.{name} puts it into.",
                kind="unavailable",
            ) from None
        raise BobError(
            f"The files of {name} under {data_root()} are not those published: torchvision says "
            f"{type(error).__name__}: {error}. Download and unpack them again.",
            kind="dataset",
        ) from error


def _listed(name: str, dataset: Any) -> Listing:
    try:
        values = [getattr(dataset, attribute) for attribute in _LISTS[name]]
    except AttributeError as error:
        raise BobError(
            f"torchvision {torchvision.__version__} keeps the files of {name} elsewhere than this "
            f"version of bob knows ({error}). Install an earlier torchvision.",
            kind="dataset",
        ) from None
    pairs = values[0] if len(values) == 1 else list(zip(*values, strict=True))
    root = data_root()
    names = [Path(path).relative_to(root).as_posix() for path, _ in pairs]
    return Listing(names, [int(label) for _, label in pairs])


def _classes(dataset: Any, labels: Sequence[int]) -> list[str]:
    """Names of the classes; numbers where torchvision gives none."""
    names: Sequence[str] | None = getattr(dataset, "classes", None)
    return list(names or (f"class {index}" for index in range(max(labels, default=0) + 1)))
