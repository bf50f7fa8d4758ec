"""Extent and area of COCO's segmentations, without drawing them.

Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from bob.catalog.coco_values import number


class Outline(NamedTuple):
    """What a mask takes up.

    Attributes:
        corners: Its extent, x0, y0, x1, y1.
        area: Pixels; of polygons that overlap, the sum.
    """

    corners: tuple[float, float, float, float]
    area: float


def outline(segmentation: Any) -> Outline | None:
    """Extent and area of polygons or run lengths; none where they are malformed or empty."""
    try:
        if isinstance(segmentation, dict):
            height, counts = segmentation["size"][0], segmentation["counts"]
            if isinstance(counts, bytes):
                counts = counts.decode("ascii")
            found = _of_runs(runs_of(counts) if isinstance(counts, str) else counts, height)
        else:
            found = _of_polygons(segmentation)
        return found if found and all(map(number, (*found.corners, found.area))) else None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def runs_of(text: str) -> list[int]:
    """The run lengths that COCO's compressed text stands for.

    Raises:
        IndexError: The text ends within a number.
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            part = ord(text[place]) - 48
            value |= (part & 31) << shift
            more = bool(part & 32)
            place, shift = place + 1, shift + 5
            if not more and part & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _of_runs(runs: Sequence[int], height: int) -> Outline | None:
    """Of runs down the columns, the first of background."""
    edges = [0, *accumulate(runs)]
    filled = [(start, end) for start, end in list(pairwise(edges))[1::2] if end > start]
    if not filled:
        return None
    top, bottom = height, 0
    for start, end in filled:
        last = end - 1
        across = start // height != last // height
        top = min(top, 0 if across else start % height)
        bottom = max(bottom, height if across else last % height + 1)
    left, right = filled[0][0] // height, (filled[-1][1] - 1) // height + 1
    return Outline((left, top, right, bottom), sum(end - start for start, end in filled))


def _of_polygons(polygons: Sequence[Sequence[float]]) -> Outline | None:
    if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        return None
    xs, ys = ([value for polygon in polygons for value in polygon[axis::2]] for axis in (0, 1))
    corners = (min(xs), min(ys), max(xs), max(ys))
    return Outline(corners, sum(_shoelace(polygon) for polygon in polygons))


def _shoelace(polygon: Sequence[float]) -> float:
    xs, ys = polygon[::2], polygon[1::2]
    turned = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in turned)) / 2
