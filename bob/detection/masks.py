"""Masks as COCO run-length encodings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def encode(masks: torch.Tensor) -> tuple[dict[str, Any], ...]:
    """Run-length encodings, as JSON takes them, of masks ``(n, height, width)`` of bool."""
    from faster_coco_eval.core import mask as coco_mask

    if not len(masks):
        return ()
    planes = np.asfortranarray(masks.to(torch.uint8).permute(1, 2, 0).numpy())
    return tuple(
        {"size": list(map(int, encoded["size"])), "counts": _text(encoded["counts"])}
        for encoded in coco_mask.encode(planes)
    )


def _text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
