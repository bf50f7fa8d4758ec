"""What each image contributes to a score that several outcomes of it are in."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from bob.errors import BobError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """Images in a fixed order.

    Attributes:
        count: How many.
        digest: Hex SHA-256 of their classes in order. Lists with the same may be of the same
            images, and are taken to be.
        share: Part of the score that is of them, above 0 to 1.
        step: How-manieth image of the list with the digest each is, counted from its first; 1 where
            they are all of it.
    """

    count: int
    digest: str
    share: float = 1.0
    step: int = 1

    @classmethod
    def of(cls, targets: NDArray[np.int64], *, share: float = 1.0, step: int = 1) -> Self:
        """The list of every ``step``-th of the images of these classes, ``(n,)``."""
        digest = hashlib.sha256(targets.astype("<i8").tobytes()).hexdigest()
        return cls(count=len(targets[::step]), digest=digest, share=share, step=step)

    def joined(self, other: ImageList) -> Self:
        """The list with the share of another of the same images added."""
        return replace(self, share=self.share + other.share)


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """Per-image contributions whose plain mean is the score.

    An image that is scored several times, as under several corruptions or after learning from
    several draws, has one contribution: the weighted sum of its outcomes.

    Attributes:
        values: ``(n,)`` float64, the lists' images one after another. An image that was always
            right has its list's ``share * n / count``.
        lists: Which images those are.

    Raises:
        BobError: A list holds no image, or there are not as many finite values as images.
    """

    values: NDArray[np.float64]
    lists: tuple[ImageList, ...]

    def __post_init__(self) -> None:
        count = sum(images.count for images in self.lists)
        if self.values.shape != (count,) or self.values.dtype.kind != "f":
            raise BobError(
                f"contributions are {self.values.dtype} of shape {self.values.shape}, not a "
                f"number for each of {count} images"
            )
        if not count or any(images.count < 1 or images.step < 1 for images in self.lists):
            raise BobError("contributions are of no images")
        if not math.isfinite(float(self.values.sum())):
            raise BobError("contributions are not finite")
