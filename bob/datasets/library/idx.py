"""Images in the IDX files of MNIST and its like, read by torchvision, packed or not."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from bob.catalog.data_root import data_root, located
from bob.datasets.base import ClassificationData, RetrievalData
from bob.datasets.images import Arrays, ImageSplit
from bob.datasets.library.common import assembled, first_of_each, refused
from bob.datasets.relevance import class_relevance
from bob.datasets.retrieval_sets.parts import retrieval_data
from bob.errors import first_line

_PARTS = {"train": "train", "test": "t10k"}
_KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


def load(*, name: str, folder: str, train: int = 0, test: int = 0) -> ClassificationData:
    """Load a dataset with its official splits, or a part of them.

    Args:
        name: Class in ``torchvision.datasets``, such as ``FashionMNIST``.
        folder: Folder of the four files under the data root; ``a|b`` is the first that holds all
            of them.
        train: Images of each class to learn from, the first of them in the file; 0 for all.
        test: The same of those to score on.

    Raises:
        BobError: The folder is not there (``kind`` is ``unavailable``), or a file is missing or
            damaged.
    """
    root = _whole(folder)
    splits = [
        first_of_each(_split(root, name, part), count, f"{name}'s {part} split")
        for part, count in (("train", train), ("test", test))
    ]
    return assembled(name, getattr(datasets, name).classes, *splits)


def load_retrieval(*, name: str, folder: str, queries: int, database: int) -> RetrievalData:
    """Queries from the test split, a database from the train split; a query's own class is right.

    Args:
        name: As of ``load``.
        folder: As of ``load``.
        queries: Images of each class, the first of the test split.
        database: Images of each class, the first of the train split.

    Raises:
        BobError: As of ``load``.
    """
    data = load(name=name, folder=folder, train=database, test=queries)
    assert isinstance(data.train, ImageSplit)
    assert isinstance(data.test, ImageSplit)
    return retrieval_data(
        class_names=list(data.class_names),
        queries=data.test,
        database=data.train,
        relevance=class_relevance(data.test.targets, data.train.targets),
    )


def _whole(folder: str) -> Path:
    """The first of ``a|b`` that holds all four files, else the first that exists."""
    for way in folder.split("|"):
        root = data_root() / way
        files = [root / f"{part}-{kind}" for part in _PARTS.values() for kind in _KINDS]
        if all(file.is_file() or file.with_name(f"{file.name}.gz").is_file() for file in files):
            return root
    return located(folder)


def _split(root: Path, name: str, part: str) -> ImageSplit:
    images = _read(root / f"{_PARTS[part]}-images-idx3-ubyte", read_image_file)
    labels = _read(root / f"{_PARTS[part]}-labels-idx1-ubyte", read_label_file)
    if len(images) != len(labels):
        raise refused(
            f"{root}: the {part} split has {len(images)} images and {len(labels)} labels. Download "
            "its files again."
        )
    grey = images.numpy()[..., None]
    return ImageSplit(
        source=Arrays(np.broadcast_to(grey, (*grey.shape[:3], 3)), f"{name} {part}"),
        targets=labels.to(torch.int64),
    )


def _read(path: Path, reader: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """What torchvision's reader makes of a file, or of its packed twin with ``.gz`` behind."""
    packed = path.with_name(path.name + ".gz")
    try:
        if path.is_file():
            return reader(str(path))
        with tempfile.NamedTemporaryFile() as plain:
            plain.write(gzip.decompress(packed.read_bytes()))
            plain.flush()
            return reader(plain.name)
    except FileNotFoundError:
        raise refused(f"{path.parent} holds neither {path.name} nor {packed.name}.") from None
    except Exception as error:  # torchvision asserts, gzip and struct raise their own
        where = path if path.is_file() else packed
        raise refused(
            f"{where} is not an IDX file as published: {type(error).__name__}: "
            f"{first_line(error)}. Download it again."
        ) from error
