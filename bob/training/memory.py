"""Effective batches that do not fit a device, and objects that need not be looked through."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bob.errors import BobError


def split_further(parts: int, images: int, size: tuple[int, int], device: torch.device) -> int:
    """Into how many parts to split a batch that did not fit as ``parts``.

    Args:
        parts: Parts it was split into.
        images: Images in the batch.
        size: Height and width of an image.
        device: Where memory ran out.

    Raises:
        BobError: Every part was a single image; ``kind`` is ``out-of-memory``.
    """
    if parts >= images:
        raise BobError(
            f"Out of memory on {device} with a single image of {size[0]} x {size[1]} pixels; take "
            "a larger device.",
            kind="out-of-memory",
        ) from None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return parts * 2


@contextmanager
def settled_objects() -> Iterator[None]:
    """Python's search for cycles passes over every object that exists already.

    Imports leave half a million of them, and a loop of small updates that allocates many objects
    spends a tenth of its time looking through them.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
