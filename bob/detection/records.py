"""What engines of detection give to its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, in pixels of the image as it is on disk.

    Attributes:
        boxes: Corners ``x0, y0, x1, y1``, float32 on the CPU, ``(n, 4)``.
        scores: float32, ``(n,)``.
        labels: Positions in the dataset's class names, int64, ``(n,)``.
        masks: COCO run-length encodings (``size``, ``counts``), one per box, or none.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    masks: tuple[dict[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)
