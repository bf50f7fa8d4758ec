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
from bob.datasets.library.common import Listing, assembled, refused
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


def load(*, name: str, train: str, test: str) -> ClassificationData:
    """Load a dataset with official splits.

    Args:
        name: Class in ``torchvision.datasets``.
        train: Its split to learn from, such as ``train``; ``train+val`` is both.
        test: Its split to score on.

    Raises:
        BobError: The dataset is not there (``kind`` is ``unavailable``) or not as published.
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
    return assembled(name, names, learn.split(), lists[test].split())


def load_unsplit(*, name: str, test_share: float) -> ClassificationData:
    """Load a dataset without official splits, and split each class by a fixed draw.

    Args:
        name: Class in ``torchvision.datasets``.
        test_share: Of each class, to score on; see ``bob.datasets.subsets.stratified``.

    Raises:
        BobError: The dataset is not there (``kind`` is ``unavailable``) or not as published.
    """
    dataset = _read(name)
    every = _listed(name, dataset)
    learn, score = stratified(torch.tensor(every.labels), test_share)
    return assembled(name, dataset.classes, every.part(learn).split(), every.part(score).split())


def load_cifar(*, name: str) -> ClassificationData:
    """Load CIFAR-10 or CIFAR-100; torchvision checks each file's MD5.

    Args:
        name: ``CIFAR10`` or ``CIFAR100``.

    Raises:
        BobError: The dataset is not there (``kind`` is ``unavailable``) or not as published.
    """
    splits = {}
    for part in ("train", "test"):
        dataset = _read(name, train=part == "train")
        splits[part] = ImageSplit(
            source=Arrays(dataset.data, f"{name} {part}"), targets=torch.tensor(dataset.targets)
        )
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
