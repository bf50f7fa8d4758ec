"""Two photographs that scikit-learn ships, as backgrounds of scenes.

A river with a pagoda (``china.jpg``) and a flower (``flower.jpg``), by the Flickr users
danielbuechele and vultilion, CC BY 2.0. Only the luminance that the files hold is decoded, and
shrunk in whole numbers, so that every machine sees the same.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import as_file, files
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ("china.jpg", "flower.jpg")
SHRINK = 2


@lru_cache(maxsize=2)
def photographs(part: Literal["train", "val"]) -> tuple[NDArray[np.int64], ...]:
    """Grey pictures ``(213, 160)``, 0 to 255: the left halves to train on, the right ones to test.

    Args:
        part: ``train`` or ``val``.
    """
    halves = []
    for name in NAMES:
        with as_file(files("sklearn.datasets.images") / name) as path, Image.open(path) as picture:
            picture.draft("L", picture.size)
            grey = np.asarray(picture, np.int64)
        rows, columns = (side // SHRINK for side in grey.shape)
        grey = grey[: rows * SHRINK, : columns * SHRINK]
        small = grey.reshape(rows, SHRINK, columns, SHRINK).sum(axis=(1, 3)) // SHRINK**2
        middle = columns // 2
        halves.append(small[:, :middle] if part == "train" else small[:, middle:])
    return tuple(halves)
