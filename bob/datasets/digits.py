"""Real handwritten digits: the UCI optical recognition set that scikit-learn ships.

1,797 images of 8 x 8 pixels and 17 grey levels (E. Alpaydin and C. Kaynak, 1998). The samples are
in order of collection, so that the last ones were mostly written by other people than the first;
the train split is the first part and the test split the rest.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bob.datasets.base import ClassificationData, Split
from bob.datasets.pixels import counts_to_rgb

IMAGE_SIZE = 32


def load(*, train_size: int = 1200) -> ClassificationData:
    """Load the digits.

    Args:
        train_size: Samples in the train split; the other ones are the test split.

    Returns:
        Ten classes of 32 x 32 RGB images, enlarged bilinearly.
    """
    counts, labels = read()
    digest = hashlib.sha256(counts.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    images = counts_to_rgb(counts, IMAGE_SIZE).mul_(255).round_().to(torch.uint8)
    targets = torch.from_numpy(labels)
    return ClassificationData(
        sha256=digest,
        class_names=tuple(str(digit) for digit in range(10)),
        train=Split(images[:train_size], targets[:train_size]),
        test=Split(images[train_size:], targets[train_size:]),
    )


def read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The file in scikit-learn's folder, read without importing scikit-learn.

    Returns:
        Grey levels 0 to 16, ``(1797, 8, 8)``, and labels, ``(1797,)``.
    """
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.exists():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1].reshape(-1, 8, 8).astype(np.uint8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # which knows where it keeps them

    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
