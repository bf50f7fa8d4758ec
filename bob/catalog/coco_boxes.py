"""Whether the boxes of a COCO-format file are x, y, width, height, as far as a split can tell.

A box of another form is four numbers too: nothing fails, and the score is wrong. So a split is
looked at as a whole. Boxes of the right form seldom leave their image, agree with their masks and
with ``area``, and are larger than a pixel. Real files hold a few that do not; those are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bob.catalog.coco_forms import (
    CORNERS,
    OUTSIDE,
    Placed,
    apart,
    form_by_masks,
    form_by_place,
    form_remedy,
    has_area_of_corners,
    has_wrong_area,
    normalised,
    scale_remedy,
)
from bob.catalog.coco_outlines import outline
from bob.catalog.coco_reach import in_percent, percent_remedy, upper_left, whole_numbers
from bob.catalog.coco_values import error_of

REFUSED = 0.1
"""Share of boxes that contradict their mask or ``area``, or are smaller than a pixel."""

COMPARED = 5000
"""Masks that are compared with their boxes, evenly spread over the split."""

_PIXEL = 0.99


def check_boxes(content: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """Refuse boxes of another form.

    Args:
        content: Content that ``bob.catalog.coco_checks.check_content`` has passed.
        source: Its file.

    Returns:
        What is odd of too few boxes to be refused.

    Raises:
        BobError: Too many boxes leave their image, contradict mask or area, or are tiny; names an
            annotation, how many there are, the likely form and the conversion.
    """
    placed = _placed(content)
    if not placed:
        return ()
    remarks = []
    for doubt in _doubts(placed):
        if doubt.odd and doubt.refused:
            raise error_of(source, f"{doubt.text()}. {doubt.remedy}")
        if doubt.odd:
            remarks.append(f"{source.name}: {doubt.text()}")
    return tuple(remarks)


@dataclass(frozen=True)
class _Doubt:
    """What may be wrong.

    Attributes:
        odd: Boxes at fault.
        of: How many were looked at.
        what: Words for them; ``{area}`` and ``{extent}`` are those of the first.
        remedy: How to put it right.
        refused: Whether they are too many.
    """

    odd: Sequence[Placed]
    of: int
    what: str
    remedy: str
    refused: bool

    def text(self) -> str:
        """The count and the first one's numbers."""
        first = self.odd[0]
        what = self.what.format(
            area=first.area, extent=_listed(first.outline.corners if first.outline else ())
        )
        return (
            f"{len(self.odd)} of {self.of} boxes {what}, such as annotation {first.key}: "
            f"bbox [{_listed(first.box)}] in an image {first.height} high and {first.width} wide"
        )


def _doubts(placed: Sequence[Placed]) -> Iterator[_Doubt]:
    """Doubts about a split, the most telling first."""
    shares = [entry for entry in placed if normalised(entry)]
    if len(shares) > OUTSIDE * len(placed):
        yield _Doubt(shares, len(placed), "lie within 0..1", scale_remedy(shares), True)
    percent = in_percent(placed)
    if percent and not whole_numbers(placed):
        what = "lie within 0..100"
        yield _Doubt(placed, len(placed), what, percent_remedy(percent), True)
    yield _mask_doubt([entry for entry in placed if entry.outline is not None])
    by_area = [entry for entry in placed if entry.outline is None and entry.area is not None]
    corners = [entry for entry in by_area if has_area_of_corners(entry)]
    if len(corners) > OUTSIDE * len(by_area):
        what = "have the area ({area:g}) of a box between corners"
        yield _Doubt(corners, len(by_area), what, form_remedy(CORNERS), True)
    form, outside = form_by_place(placed)
    refused = bool(form) or len(outside) > OUTSIDE * len(placed)
    yield _Doubt(outside, len(placed), "stick out of their image", form_remedy(form), refused)
    measured = [entry for entry in placed if entry.area is not None]
    wrong = [entry for entry in measured if has_wrong_area(entry)]
    yield _Doubt(
        wrong,
        len(measured),
        "contradict their area ({area:g})",
        "Write boxes as x, y, width, height in pixels of the stored image, and area in such pixels "
        "or not at all: it is computed where it is missing",
        len(wrong) > REFUSED * len(measured),
    )
    inner, where = upper_left(placed)
    what = f"{where}, as boxes in percent or of a smaller picture do"
    yield _Doubt(inner, len(placed), what, "", False)
    small = [entry for entry in placed if 0 < min(entry.box[2:]) < _PIXEL]
    what, refused = "are less than a pixel high or wide", len(small) > REFUSED * len(placed)
    yield _Doubt(small, len(placed), what, form_remedy(""), refused)


def _mask_doubt(outlined: Sequence[Placed]) -> _Doubt:
    odd = [entry for entry in outlined if apart(entry)]
    what = "are apart from their masks (corners {extent})"
    remedy = form_remedy(form_by_masks(outlined))
    return _Doubt(odd, len(outlined), what, remedy, len(odd) > REFUSED * len(outlined))


def _placed(content: Mapping[str, Any]) -> list[Placed]:
    """Boxes of the annotations besides crowds."""
    sizes = {
        image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]
    }
    counted = [entry for entry in content["annotations"] if not entry.get("iscrowd")]
    step = -(-len(counted) // COMPARED)
    return [
        Placed(
            key=entry["id"],
            box=tuple(entry["bbox"]),
            height=sizes[entry["image_id"]][0],
            width=sizes[entry["image_id"]][1],
            area=entry.get("area"),
            image=entry["image_id"],
            encoded=isinstance(entry.get("segmentation"), dict),
            outline=None if at % step else outline(entry.get("segmentation")),
        )
        for at, entry in enumerate(counted)
    ]


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
