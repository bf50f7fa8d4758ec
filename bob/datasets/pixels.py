"""Small grey images as RGB tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def counts_to_rgb(counts: NDArray[np.uint8], size: int) -> torch.Tensor:
    """Enlarge 8 x 8 ink counts (0..16) to RGB images.

    Args:
        counts: ``(n, 8, 8)``.
        size: Height and width of the result in pixels.

    Returns:
        Float32 tensor ``(n, 3, size, size)`` with values 0..1.
    """
    grey = torch.from_numpy(np.ascontiguousarray(counts)).to(torch.float32).div_(16.0)
    large = functional.interpolate(
        grey[:, None], size=(size, size), mode="bilinear", align_corners=False
    )
    return large.expand(-1, 3, -1, -1).contiguous()
