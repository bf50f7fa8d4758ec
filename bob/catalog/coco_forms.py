"""Forms that four numbers of a box may have, and what tells them apart.

Standard library alone, so that a plan can ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bob.catalog.coco_outlines import Outline

OUTSIDE = 0.5
"""Share of boxes that stick out of their image from which any explanation will do."""

_CORNERS_OUTSIDE = 0.2
_CENTRES_OUTSIDE = 0.02
_FEWEST_CENTRES = 5
_ALL = 0.99
_SAME = 0.8
_TOLERANCE = 0.02
_ROUNDING = 0.01
_FEW_PIXELS = 4

Quad = tuple[float, float, float, float]

OWN = "x, y, width, height"
CORNERS = "corners x0, y0, x1, y1"
_CENTRES = "centres cx, cy, width, height"
_ROWS_FIRST = "y, x, height, width"
_FORMS: Mapping[str, tuple[Callable[[float, float, float, float], Quad], str]] = {
    CORNERS: (
        lambda x, y, w, h: (x, y, w, h),
        "write x0, y0, x1 - x0, y1 - y0",
    ),
    _CENTRES: (
        lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        "write cx - width / 2, cy - height / 2, width, height",
    ),
    _ROWS_FIRST: (
        lambda x, y, w, h: (y, x, y + h, x + w),
        "write x, y, width, height",
    ),
}
"""What boxes may be instead: corners of the box under that form, and the conversion."""


@dataclass(frozen=True)
class Placed:
    """A box where its file puts it.

    Attributes:
        key: Of its annotation.
        box: As it is given.
        height: Of its image.
        width: Likewise.
        area: As it is given.
        outline: Of its mask, where that is known.
        image: Its id.
        encoded: Whether its mask is run lengths, which are of the image's own pixels.
    """

    key: int
    box: Quad
    height: int
    width: int
    area: float | None
    outline: Outline | None
    image: int
    encoded: bool

    @property
    def margins(self) -> tuple[float, float]:
        """Pixels across and down that are rounding rather than another form."""
        return max(2.0, self.width / 100), max(2.0, self.height / 100)

    def within(self, corners: Quad) -> bool:
        """Whether corners lie in the image."""
        (x0, y0, x1, y1), (across, down) = corners, self.margins
        inside = x0 >= -across and y0 >= -down
        return inside and x1 <= self.width + across and y1 <= self.height + down

    def clipped(self, corners: Quad) -> Quad:
        """What of a box of corners lies in the image."""
        x0, y0, x1, y1 = corners
        return max(0, x0), max(0, y0), min(self.width, x1), min(self.height, y1)

    def corners_of(self, form: str) -> Quad:
        """The corners of the box if it were of a form, ``OWN`` or another."""
        return _own_corners(self) if form == OWN else _FORMS[form][0](*self.box)

    def fits(self, form: str) -> bool:
        """Whether the box would lie in its image, with an area, if it were of another form."""
        x0, y0, x1, y1 = corners = self.corners_of(form)
        return x1 > x0 and y1 > y0 and self.within(corners)


def form_words() -> Mapping[str, str]:
    """How to convert boxes, by their form; the right one is first and needs no words."""
    return {OWN: ""} | {form: words for form, (_, words) in _FORMS.items()}


def normalised(entry: Placed) -> bool:
    """Whether a box is one of shares of the image rather than of pixels."""
    x, y, w, h = entry.box
    shares = min(x, y) >= -_ROUNDING and max(x, y, w, h) <= 1 + _ROUNDING and min(w, h) > 0
    return shares and min(entry.height, entry.width) > _FEW_PIXELS


def _overlap(first: Quad, second: Quad) -> float:
    """Intersection over union of two boxes of corners."""
    sides = (
        max(0.0, min(first[2], second[2]) - max(first[0], second[0])),
        max(0.0, min(first[3], second[3]) - max(first[1], second[1])),
    )
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (first, second)]
    shared = sides[0] * sides[1]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def _own_corners(entry: Placed) -> Quad:
    x, y, w, h = entry.box
    return (x, y, x + w, y + h)


def apart(entry: Placed) -> bool:
    """Whether box and mask hardly share anything in their image, and not for rounding."""
    if entry.outline is None:
        return False
    own, mask = entry.clipped(_own_corners(entry)), entry.clipped(entry.outline.corners)
    if own[0] >= own[2] or own[1] >= own[3]:
        return False  # counted as a box without area
    farthest = max(abs(a - b) for a, b in zip(own, mask, strict=True))
    return farthest > 2 and _overlap(own, mask) < 0.5


def form_by_masks(placed: Sequence[Placed]) -> str:
    """The form under which the boxes are those of their masks; empty if there is none."""
    outlined = [(entry.box, entry.outline.corners) for entry in placed if entry.outline]
    for form, (corners, _) in _FORMS.items():
        same = sum(_overlap(corners(*box), mask) > _SAME for box, mask in outlined)
        if same and same >= _SAME * len(outlined):
            return form
    return ""


def has_area_of_corners(entry: Placed) -> bool:
    """Whether ``area`` is that of the corners and not that of the box."""
    x, y, w, h = entry.box
    if entry.area is None or w <= x or h <= y:
        return False
    between, own = (w - x) * (h - y), w * h
    far = abs(entry.area - own) > _TOLERANCE * own
    return far and abs(entry.area - between) <= _TOLERANCE * between


def form_by_place(placed: Sequence[Placed]) -> tuple[str, Sequence[Placed]]:
    """The other form that explains why boxes leave their image, and those that do.

    Corners taken for sizes: every box is wider than its x, none past the image, and many stick
    out. Centres taken for corners: some boxes stick out, by at most half their side to the right
    or below, and none begins nearer to the left or upper border than half its side. y before x:
    many stick out, and none would with both exchanged. Boxes of the right form do both or neither,
    and those that agree with their masks are of the right form.
    """
    outside = [entry for entry in placed if not entry.within(_own_corners(entry))]
    share = len(outside) / len(placed)
    outlined = [entry for entry in placed if entry.outline is not None]
    if outlined and not any(map(apart, outlined)):
        return form_by_masks(outlined) if share >= _CORNERS_OUTSIDE else "", outside
    if share >= _CORNERS_OUTSIDE and _nearly_all(placed, CORNERS):
        return CORNERS, outside
    enough = share >= _CENTRES_OUTSIDE and len(outside) >= _FEWEST_CENTRES
    if (enough or share > OUTSIDE) and _nearly_all(placed, _CENTRES):
        return _CENTRES, outside
    if share >= _CORNERS_OUTSIDE and _nearly_all(placed, _ROWS_FIRST):
        return _ROWS_FIRST, outside
    return "", outside


def _nearly_all(placed: Sequence[Placed], form: str) -> bool:
    return sum(entry.fits(form) for entry in placed) >= _ALL * len(placed)


def has_wrong_area(entry: Placed) -> bool:
    """Whether ``area`` is neither the box's nor about the mask's, not for rounding alone."""
    _, _, w, h = entry.box
    area = entry.area
    if area is None or w <= 0 or h <= 0:
        return False
    if area > (w + 2) * (h + 2) * (1 + _TOLERANCE):
        return True
    if abs(area - w * h) <= 0.05 * w * h:
        return False
    mask = w * h / 100 if entry.outline is None else entry.outline.area
    too_small = mask > 3 * area + 20
    return too_small or (entry.outline is not None and area > 3 * mask + 20)


def scale_remedy(shares: Sequence[Placed]) -> str:
    """What to do with boxes that are shares of their images."""
    scaled = [replace(entry, box=_in_pixels(entry)) for entry in shares]
    form = form_by_masks(scaled) or form_by_place(scaled)[0]
    remedy = (
        "They look normalised: multiply x and width by the image's width, y and height by its "
        "height"
    )
    return f"{remedy}. They look like {form} besides: {_FORMS[form][1]}" if form else remedy


def form_remedy(form: str) -> str:
    """What to do with boxes of a form, or of none that is known."""
    if form:
        return f"They look like {form}: {_FORMS[form][1]}"
    return (
        "Write x, y, width, height in pixels of the stored image, and cut off what lies outside it"
    )


def _in_pixels(entry: Placed) -> Quad:
    x, y, w, h = entry.box
    return (x * entry.width, y * entry.height, w * entry.width, h * entry.height)
