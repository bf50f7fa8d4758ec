"""Images with the objects in them, as data of detection give them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Target:
    """What is in one image.

    Attributes:
        boxes: Corners ``x0, y0, x1, y1`` in pixels, float32, ``(n, 4)``.
        labels: Positions in the dataset's class names, int64, ``(n,)``.
        masks: bool, ``(n, height, width)``; none where the dataset or the recipe has none.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Sample:
    """An image to learn from or to score.

    Attributes:
        image: RGB, uint8, ``(3, height, width)``.
        target: Its instances; crowd regions are not among them.
        index: Position in the split.
    """

    image: torch.Tensor
    target: Target
    index: int
