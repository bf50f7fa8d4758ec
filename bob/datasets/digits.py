"""Real handwritten digits: the UCI optical recognition set that scikit-learn ships.

1,797 images of 8 x 8 pixels and 17 grey levels (E. Alpaydin and C. Kaynak, 1998). The samples are
in order of collection, so that the last ones were mostly written by other people than the first;
the train split is the first part and the test split the rest.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from sklearn.datasets import load_digits

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
    bunch = load_digits()
    counts = bunch.images.astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    digest = hashlib.sha256(counts.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    images = counts_to_rgb(counts, IMAGE_SIZE).mul_(255).round_().to(torch.uint8)
    targets = torch.from_numpy(labels)
    return ClassificationData(
        sha256=digest,
        class_names=tuple(str(digit) for digit in range(10)),
        train=Split(images[:train_size], targets[:train_size]),
        test=Split(images[train_size:], targets[train_size:]),
    )
