"""What a detector found, as pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch.nn import functional

from bob.artifacts.lettering import labels, png
from bob.artifacts.plots import title
from bob.case import Case
from bob.datasets.instances import Target
from bob.detection.evaluate import DetectionScores, Matches, PrCurve, Split, match
from bob.detection.records import Detections
from bob.tabular import csv_bytes

RIGHT, WRONG, MISSED = "#22c55e", "#f97316", "#ef4444"
_CELL = 200
_GAP = 8
_COLUMNS = 6
_CLASSES_DRAWN = 20
_NAME_LIMIT = 14
_LETTER = 5.6
_SHADE = 0.35


def detection_picture(
    case: Case,
    split: Split,
    detections: Sequence[Detections],
    *,
    masks: bool,
    score_text: str,
    count: int = 12,
    min_score: float = 0.5,
) -> bytes:
    """Detections over some images, from those with most mistakes to those with fewest.

    Args:
        case: For the title.
        split: Images and ground truth.
        detections: One entry an image.
        masks: Whether masks are shaded.
        score_text: The case's scores in words.
        count: How many images.
        min_score: Detections below are not drawn.
    """
    strong = [_above(predicted, min_score) for predicted in detections]
    mistakes = [
        _mistakes(match(target, predicted))
        for target, predicted in zip(_targets(split), strong, strict=True)
    ]
    order = sorted(range(len(mistakes)), key=lambda index: -mistakes[index])
    count = min(count, len(order))
    picks = [order[round(i * (len(order) - 1) / max(1, count - 1))] for i in range(count)]
    cells = [_cell(split, index, strong[index], masks=masks) for index in picks]
    rows, step = -(-count // _COLUMNS), max(len(cell.image) for cell in cells) + _GAP
    height, width = rows * step, _COLUMNS * (_CELL + _GAP)
    canvas = np.ones((height, width, 3), np.float32)
    figure = Figure(figsize=(width / 100, (height + 60) / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, height / (height + 60)))
    for place, cell in enumerate(cells):
        top, left = place // _COLUMNS * step, place % _COLUMNS * (_CELL + _GAP)
        shown_height, shown_width = cell.image.shape[:2]
        canvas[top : top + shown_height, left : left + shown_width] = cell.image
        for mark in cell.marks:
            _draw(axes, mark, left, top, shown_height)
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.axis("off")
    figure.suptitle(
        f"{title(case)}\n{score_text}; detections of score {min_score} and more, most mistakes "
        "first: green right, orange wrong; dashed red missed",
        fontsize=9,
        y=0.995,
    )
    return png(figure)


def _targets(split: Split) -> list[Target]:
    """What is in every image, from the annotations: no image has to be read."""
    labels = {key: position for position, key in enumerate(split.category_ids)}
    found: dict[int, list[tuple[list[float], int]]] = {key: [] for key in split.image_ids}
    for annotation in split.dataset["annotations"]:
        if not annotation.get("iscrowd"):
            x, y, w, h = annotation["bbox"]
            row = ([x, y, x + w, y + h], labels[annotation["category_id"]])
            found[annotation["image_id"]].append(row)
    return [
        Target(
            torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4),
            torch.tensor([label for _, label in rows], dtype=torch.int64),
        )
        for rows in found.values()
    ]


def _above(detections: Detections, least: float) -> Detections:
    keep = (detections.scores >= least) & detections.boxes.isfinite().all(dim=1)
    masks = None
    if detections.masks is not None:
        masks = tuple(
            mask for mask, kept in zip(detections.masks, keep.tolist(), strict=True) if kept
        )
    return Detections(
        detections.boxes[keep], detections.scores[keep], detections.labels[keep], masks
    )


def _mistakes(marks: Matches) -> int:
    return marks.right.count(False) + len(marks.missed)


@dataclass(frozen=True)
class _Mark:
    """A box in pixels of its cell, and what is written at it."""

    corners: tuple[float, float, float, float]
    colour: str
    text: str
    missed: bool = False


@dataclass(frozen=True)
class _Cell:
    """An image as it is shown, ``(height, width, 3)`` from 0 to 1, and its boxes."""

    image: NDArray[np.float32]
    marks: tuple[_Mark, ...]


def _cell(split: Split, index: int, found: Detections, *, masks: bool) -> _Cell:
    sample = split.sample(index)
    matches = match(sample.target, found)
    source = sample.image.float()[None] / 255
    height, width = source.shape[-2:]
    scale = _CELL / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    mode = "nearest" if scale >= 1 else "area"
    image = functional.interpolate(source, size=size, mode=mode)[0].permute(1, 2, 0).numpy()
    colours = [RIGHT if right else WRONG for right in matches.right]
    if masks and found.masks is not None:
        _shade(image, found.masks, colours)
    names = labels(split.class_names, _NAME_LIMIT)

    def within(box: torch.Tensor) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = (box * scale).tolist()
        x0, x1 = (min(max(x, 0.0), size[1] - 1.0) for x in (x0, x1))
        y0, y1 = (min(max(y, 0.0), size[0] - 1.0) for y in (y0, y1))
        return x0, y0, x1, y1

    marks = []
    for position in matches.missed:
        text = names[int(sample.target.labels[position])]
        marks.append(_Mark(within(sample.target.boxes[position]), MISSED, text, missed=True))
    rows = zip(found.boxes, found.labels.tolist(), found.scores.tolist(), colours, strict=True)
    for box, category, score, colour in rows:
        marks.append(_Mark(within(box), colour, f"{names[category]} {score:.2f}"))
    return _Cell(image, tuple(marks))


def _shade(
    image: NDArray[np.float32], masks: Sequence[dict[str, Any]], colours: Sequence[str]
) -> None:
    """Colour an image as it is shown where the masks are."""
    from faster_coco_eval.core import mask as coco_mask

    for mask, colour in zip(masks, colours, strict=True):
        plane = coco_mask.decode(mask)
        rows, columns = (
            np.arange(shown) * full // shown
            for shown, full in zip(image.shape[:2], plane.shape[:2], strict=True)
        )
        inside = plane[np.ix_(rows, columns)].astype(bool)
        image[inside] = (1 - _SHADE) * image[inside] + _SHADE * np.array(to_rgb(colour))


def _draw(axes: Axes, mark: _Mark, left: int, top: int, height: int) -> None:
    x0, y0, x1, y1 = mark.corners
    axes.add_patch(
        Rectangle(
            (left + x0 - 0.5, top + y0 - 0.5),
            x1 - x0,
            y1 - y0,
            fill=False,
            edgecolor=mark.colour,
            linewidth=1.4,
            linestyle=(0, (3, 2)) if mark.missed else "-",
        )
    )
    # Below its box where a missed object is named, so that it does not cover a detection's label.
    y = min(y1, height - 12) if mark.missed else max(0.0, y0 - 13)
    axes.text(
        left + max(1.0, min(x0, _CELL - _LETTER * len(mark.text))),
        top + y,
        mark.text,
        fontsize=7,
        va="top",
        ha="left",
        color="black",
        bbox={"facecolor": mark.colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )


def pr_picture(case: Case, curves: Mapping[str, PrCurve], metrics: Mapping[str, float]) -> bytes:
    """Precision by recall at IoU 0.5, 0.75 and on average, of boxes and masks."""
    panels = max(1, len(curves))
    figure = Figure(figsize=(0.6 + 3.6 * panels, 3.6), dpi=100)
    figure.subplots_adjust(left=0.55 / (0.6 + 3.6 * panels), right=0.98, bottom=0.14, top=0.87)
    for place, (kind, curve) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, panels, place)
        if len(curve.by_class) <= _CLASSES_DRAWN:
            axes.plot(curve.recalls, curve.by_class.T, color="0.8", linewidth=0.8)
        for threshold, values, name in (
            ("IoU 0.50", curve.at50, f"{kind}_ap50"),
            ("IoU 0.75", curve.at75, f"{kind}_ap75"),
            ("IoU 0.50 to 0.95", curve.mean, f"{kind}_ap"),
        ):
            score = metrics.get(name, float("nan"))
            axes.plot(curve.recalls, values, label=f"{threshold}: AP {score:.3f}")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=kind)
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="best")
    figure.suptitle(f"{title(case)}; grey: classes at IoU 0.50", fontsize=9)
    return png(figure)


def per_class_csv(scores: DetectionScores) -> bytes:
    """Ground truth and AP of every class."""
    return csv_bytes(
        ("class", "instances", "box_ap", "mask_ap"),
        (
            (row.name, row.instances, row.box_ap, "" if row.mask_ap is None else row.mask_ap)
            for row in scores.per_class
        ),
    )
