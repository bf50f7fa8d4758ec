"""Whether the boxes of a split reach as far as its images do.

Boxes in percent, or in pixels of a smaller picture, lie in their images and contradict nothing;
but all of them lie in the upper left. Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bob.catalog.coco_forms import Placed, Quad, apart, form_words

_FEWEST_BOXES = 20
_FEWEST_IMAGES = 5
_SHORTEST_SIDE = 200
_NEARLY_ALL = 0.99
_FULL = 100
_ROUNDING = 0.5
_REACHED = 90
_SPREAD = 10

PERCENT = (
    "They look like percent of the image, 0 to 100: multiply x and width by the image's width / "
    "100, y and height by its height / 100"
)


def in_percent(placed: Sequence[Placed]) -> str:
    """The form that boxes in percent have besides; empty where they are not in percent.

    They are if there are enough of them in images much larger than 100 pixels, nearly all lie
    within 0 to 100, and together they fill that: no edge is always in about the same place.
    """
    within = [entry for entry in placed if max(entry.box) <= _FULL + _ROUNDING]
    large = [entry for entry in within if min(entry.height, entry.width) >= _SHORTEST_SIDE]
    if (
        len(large) < max(_FEWEST_BOXES, _NEARLY_ALL * len(placed))
        or len({entry.image for entry in large}) < _FEWEST_IMAGES
        or _in_known_pixels(placed)
    ):
        return ""
    return next((form for form in form_words() if _fills(large, form)), "")


def percent_remedy(form: str) -> str:
    """What to do with boxes in percent that are of a form besides."""
    words = form_words()[form]
    return f"{PERCENT}. They look like {form} besides: {words}" if words else PERCENT


def whole_numbers(placed: Sequence[Placed]) -> bool:
    """Whether most boxes are of whole numbers, as pixels are and percent seldom."""
    whole = sum(all(float(value).is_integer() for value in entry.box) for entry in placed)
    return 2 * whole > len(placed)


def upper_left(placed: Sequence[Placed]) -> tuple[Sequence[Placed], str]:
    """Boxes of a split that reach less than half as far as its images, and words for them.

    Nothing where boxes are few, or where run lengths, which are of the image's pixels, agree.
    """
    if len(placed) < _FEWEST_BOXES or _in_known_pixels(placed):
        return (), ""
    inner = [entry for entry in placed if _in_quarter(entry, entry.height, entry.width)]
    if len(inner) >= _NEARLY_ALL * len(placed):
        return inner, "lie in the upper left quarter of their images"
    height, width = (median(sides) for sides in zip(*map(_size, placed), strict=True))
    if all(_in_quarter(entry, height, width) for entry in placed):
        return placed, "reach less than half as far as most images"
    return (), ""


def _fills(placed: Sequence[Placed], form: str) -> bool:
    corners = [entry.corners_of(form) for entry in placed]
    kept = [box for box in corners if _is_share(box)]
    if len(kept) < _NEARLY_ALL * len(placed):
        return False
    edges: list[list[float]] = [sorted(edge) for edge in zip(*kept, strict=True)]
    tail = len(kept) // 20
    spread: float = min(edge[-1 - tail] - edge[tail] for edge in edges)
    return min(edges[2][-1], edges[3][-1]) >= _REACHED and spread >= _SPREAD


def _is_share(corners: Quad) -> bool:
    x0, y0, x1, y1 = corners
    inside = min(x0, y0) >= -_ROUNDING and max(x1, y1) <= _FULL + _ROUNDING
    return inside and x0 <= x1 and y0 <= y1


def _in_known_pixels(placed: Sequence[Placed]) -> bool:
    return any(entry.encoded and entry.outline and not apart(entry) for entry in placed)


def _in_quarter(entry: Placed, height: float, width: float) -> bool:
    x, y, w, h = entry.box
    return 2 * (x + w) <= width and 2 * (y + h) <= height


def _size(entry: Placed) -> tuple[int, int]:
    return entry.height, entry.width
