"""What a detector found, as pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional

from bob.case import Case
from bob.detection.evaluate import DetectionScores, Matches, PrCurve, Split, match
from bob.detection.records import Detections
from bob.report.plots import png, title
from bob.report.tables import csv_bytes

RIGHT, WRONG, MISSED = "#22c55e", "#f97316", "#ef4444"
_CELL = 200
_GAP = 8
_COLUMNS = 6
_CLASSES_DRAWN = 20


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
    strong = [_above(one, min_score) for one in detections]
    marks = [match(split.sample(i).target, one) for i, one in enumerate(strong)]
    order = sorted(range(len(marks)), key=lambda i: -_mistakes(marks[i]))
    count = min(count, len(order))
    picks = [order[round(i * (len(order) - 1) / max(1, count - 1))] for i in range(count)]
    rows = -(-count // _COLUMNS)
    step = _CELL + _GAP
    height, width = rows * step, min(count, _COLUMNS) * step
    canvas = np.ones((height, width, 3), np.float32)
    figure = Figure(figsize=(width / 100, (height + 60) / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, height / (height + 60)))
    for cell, index in enumerate(picks):
        top, left = cell // _COLUMNS * step, cell % _COLUMNS * step
        scale = _paste(
            canvas, split, index, top, left, strong[index] if masks else None, marks[index]
        )
        _annotate(axes, split, index, strong[index], marks[index], (left, top, scale))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.axis("off")
    figure.suptitle(
        f"{title(case)}\n{score_text}; detections of score {min_score} and more: green right, "
        "orange wrong; dashed red: missed",
        fontsize=9,
        y=0.995,
    )
    return png(figure)


def _above(one: Detections, least: float) -> Detections:
    keep = one.scores >= least
    masks = None
    if one.masks is not None:
        masks = tuple(m for m, kept in zip(one.masks, keep.tolist(), strict=True) if kept)
    return Detections(one.boxes[keep], one.scores[keep], one.labels[keep], masks)


def _mistakes(marks: Matches) -> int:
    return marks.right.count(False) + len(marks.missed)


def _paste(
    canvas: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    split: Split,
    index: int,
    top: int,
    left: int,
    shaded: Detections | None,
    marks: Matches,
) -> float:
    """Put one image into its cell, masks shaded; returns the scale it is shown at."""
    image = split.sample(index).image.float() / 255
    if shaded is not None and shaded.masks:
        from faster_coco_eval.core import mask as coco_mask

        for mask, right in zip(shaded.masks, marks.right, strict=True):
            plane = torch.from_numpy(coco_mask.decode(mask)).bool()
            colour = torch.tensor(_rgb(RIGHT if right else WRONG))[:, None]
            image[:, plane] = 0.55 * image[:, plane] + 0.45 * colour
    scale = float(_CELL / max(image.shape[-2:]))
    size = (max(1, round(image.shape[-2] * scale)), max(1, round(image.shape[-1] * scale)))
    mode = "nearest" if scale >= 1 else "area"
    shown = functional.interpolate(image[None], size=size, mode=mode)[0]
    canvas[top : top + size[0], left : left + size[1]] = shown.permute(1, 2, 0).numpy()
    return scale


def _annotate(
    axes: Axes,
    split: Split,
    index: int,
    found: Detections,
    marks: Matches,
    place: tuple[int, int, float],
) -> None:
    target = split.sample(index).target
    for position in marks.missed:
        name = split.class_names[int(target.labels[position])]
        _box(axes, target.boxes[position], place, MISSED, f"{name} missed", dashed=True)
    rows = zip(found.boxes, found.labels.tolist(), found.scores.tolist(), marks.right, strict=True)
    for box, label, score, right in rows:
        text = f"{split.class_names[label][:14]} {score:.2f}"
        _box(axes, box, place, RIGHT if right else WRONG, text)


def _box(
    axes: Axes,
    corners: torch.Tensor,
    place: tuple[int, int, float],
    colour: str,
    text: str,
    *,
    dashed: bool = False,
) -> None:
    left, top, scale = place
    x0, y0, x1, y1 = (corners * scale).tolist()
    line = (0, (3, 2)) if dashed else "-"
    axes.add_patch(
        Rectangle(
            (left + x0 - 0.5, top + y0 - 0.5), x1 - x0, y1 - y0,
            fill=False, edgecolor=colour, linewidth=1.4, linestyle=line,
        )
    )  # fmt: skip
    # below its box where a missed object is named, so that it does not cover a detection's label
    y = min(y1, _CELL - 12) if dashed else max(0.0, y0 - 13)
    axes.text(
        left + min(max(x0, 1.0), _CELL - 52), top + y, text, fontsize=7, va="top", ha="left",
        color="black", bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )  # fmt: skip


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def pr_picture(case: Case, curves: Mapping[str, PrCurve], metrics: Mapping[str, float]) -> bytes:
    """Precision by recall at IoU 0.5, 0.75 and on average, of boxes and masks."""
    panels = max(1, len(curves))
    figure = Figure(figsize=(0.6 + 3.6 * panels, 3.6), dpi=100)
    figure.subplots_adjust(left=0.55 / (0.6 + 3.6 * panels), right=0.98, bottom=0.14, top=0.87)
    for place, (kind, curve) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, panels, place)
        if len(curve.by_class) <= _CLASSES_DRAWN:
            axes.plot(curve.recalls, curve.by_class.T, color="0.8", linewidth=0.8)
        for label, values, name in (
            ("IoU 0.50", curve.at50, f"{kind}_ap50"),
            ("IoU 0.75", curve.at75, f"{kind}_ap75"),
            ("IoU 0.50 to 0.95", curve.mean, f"{kind}_ap"),
        ):
            score = metrics.get(name, float("nan"))
            axes.plot(curve.recalls, values, label=f"{label}: AP {score:.3f}")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=kind)
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="lower left")
    figure.suptitle(f"{title(case)}; grey: classes at IoU 0.50", fontsize=9)
    return png(figure)


def per_class_csv(scores: DetectionScores) -> bytes:
    """Ground truth and AP of every class."""
    return csv_bytes(
        ("class", "instances", "box_ap", "mask_ap"),
        (
            (one.name, one.instances, one.box_ap, "" if one.mask_ap is None else one.mask_ap)
            for one in scores.per_class
        ),
    )
