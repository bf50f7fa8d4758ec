"""Whether the segmentations of a COCO-format file are polygons or run lengths.

Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bob.catalog.coco_values import error_of, shown, whole
from bob.errors import BobError

FARTHEST = 1e6
"""Polygon points beyond this, infinite or NaN would take all memory to draw."""


LONGEST = 5e6
"""Pixels along an outline. Those who draw it keep some dozen bytes for each."""


def check_segmentation(annotation: Mapping[str, Any], size: tuple[int, int], source: Path) -> None:
    """Refuse a segmentation that is missing or no polygons or run lengths.

    Args:
        annotation: A crowd may lack one.
        size: Height and width of its image.
        source: Its file.

    Raises:
        BobError: Names the file and the annotation.
    """
    shape, key = annotation.get("segmentation"), annotation["id"]
    if not shape and annotation.get("iscrowd"):
        return
    if not shape:
        raise error_of(
            source,
            f"annotation {key} has no segmentation. For boxes alone set `masks: false` in the "
            "recipe and the dataset's options",
        )
    if isinstance(shape, dict):
        _check_run_lengths(shape, key, size, source)
    elif not isinstance(shape, list) or not all(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        for polygon in shape
    ):
        raise error_of(
            source,
            f"annotation {key}: a polygon needs at least three points, as x, y, x, y, ..., and "
            f"segmentation is a list of polygons, not {shown(shape)}. Write [] where there is no "
            "mask",
        )
    elif not all(_drawable(polygon) for polygon in shape):
        raise undecodable(
            key, "a point is not finite or far outside the image, or its outline is endless", source
        )


def undecodable(key: int, reason: str, source: Path) -> BobError:
    """The error of a segmentation that no mask can be made of."""
    # A library's own words can hold whole masks.
    return error_of(
        source,
        f"annotation {key}: its segmentation cannot be decoded: {reason[:80].rstrip('.')}. "
        "Correct it or take it out",
    )


def _drawable(polygon: Sequence[Any]) -> bool:
    try:
        # NaN and infinity stay in a sum; text and lists cannot be added.
        if not math.isfinite(sum(polygon)):
            return False
        low, high = min(polygon), max(polygon)
        near = low > -FARTHEST and high < FARTHEST
        return near and ((high - low) * len(polygon) <= LONGEST or _length(polygon) <= LONGEST)
    except (TypeError, OverflowError):
        return False


def _length(polygon: Sequence[float]) -> float:
    """Pixels along the outline, as far as either coordinate goes."""
    xs, ys = polygon[::2], polygon[1::2]
    return sum(
        max(abs(xs[place] - xs[place - 1]), abs(ys[place] - ys[place - 1]))
        for place in range(len(xs))
    )


def _check_run_lengths(
    shape: Mapping[str, Any], key: int, size: tuple[int, int], source: Path
) -> None:
    given, counts = shape.get("size"), shape.get("counts")
    if "counts" not in shape or not isinstance(given, list | tuple):
        raise error_of(
            source, f"annotation {key}: its run-length mask lacks counts or size. Add them"
        )
    height, width = size
    if not all(whole(side) for side in given) or list(given) != [height, width]:
        swapped = list(given) == [width, height]
        remedy = "Write the height first" if swapped else "Encode it at that size"
        raise error_of(
            source,
            f"annotation {key}: its run-length mask is of size {shown(list(given))}, the image of "
            f"{[height, width]}. {remedy}",
        )
    if not isinstance(counts, list | str | bytes):
        raise undecodable(key, "its counts are neither a list nor a text", source)
    if isinstance(counts, list):
        if not all(whole(run) and run >= 0 for run in counts):
            raise undecodable(key, "its counts are not whole numbers", source)
        if sum(counts) != height * width:
            reason = f"its counts add up to {sum(counts)}, not to {height * width} pixels"
            raise undecodable(key, reason, source)
