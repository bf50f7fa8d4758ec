"""Masks of COCO's annotations, drawn by the library that scores them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bob.catalog.coco_segmentations import undecodable


def mask_of(
    annotation: Mapping[str, Any], size: tuple[int, int], source: Path
) -> NDArray[np.uint8]:
    """The mask of an annotation.

    Args:
        annotation: One that ``bob.catalog.coco_segmentations.check_segmentation`` has passed.
        size: Height and width of its image.
        source: Its file.

    Returns:
        Zeros and ones, uint8, ``(height, width)``.

    Raises:
        BobError: It cannot be decoded; names file and annotation.
    """
    from faster_coco_eval.core import mask as coco_mask

    return np.asarray(_library(coco_mask.decode, annotation, size, source))


def mask_area(annotation: Mapping[str, Any], size: tuple[int, int], source: Path) -> float:
    """How many pixels a mask covers; arguments and errors are those of ``mask_of``."""
    from faster_coco_eval.core import mask as coco_mask

    return float(_library(coco_mask.area, annotation, size, source))


def _library(
    function: Any, annotation: Mapping[str, Any], size: tuple[int, int], source: Path
) -> Any:
    from faster_coco_eval.core import mask as coco_mask

    shape = annotation["segmentation"]
    try:
        if not isinstance(shape, dict):
            shape = coco_mask.merge(coco_mask.frPyObjects(shape, *size))
        elif isinstance(shape["counts"], list):
            shape = coco_mask.frPyObjects(shape, *size)
        return function(shape)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise undecodable(annotation["id"], str(error), source) from error
