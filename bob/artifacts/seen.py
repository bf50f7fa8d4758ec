"""What a protocol is fed, as a picture: classes down, images across, framed by predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch.nn import functional

from bob.artifacts.lettering import label, png
from bob.artifacts.plots import subject
from bob.case import Case

UNKNOWN, RIGHT, WRONG = "#9ca3af", "#22c55e", "#ef4444"
_CELL, _FRAME, _GAP, _CAPTION, _LABEL = 84, 4, 6, 14, 150
_NAME = 14
"""Letters of a caption below an image."""


@dataclass(frozen=True)
class SeenImage:
    """One image.

    Attributes:
        image: uint8 ``(3, height, width)``, as the backbone gets it but for the normalisation.
        colour: Of its frame.
        caption: Below it, such as the class that was predicted.
    """

    image: torch.Tensor
    colour: str = UNKNOWN
    caption: str = ""


@dataclass(frozen=True)
class SeenRow:
    """A class, and its images under each heading."""

    label: str
    images: Sequence[Sequence[SeenImage]]


def seen_picture(case: Case, headings: Sequence[str], rows: Sequence[SeenRow], note: str) -> bytes:
    """A mosaic as PNG.

    Args:
        case: For the title.
        headings: Of the groups of columns, such as ``train`` and ``test``.
        rows: Each with a group of images for every heading.
        note: In words, what size images have and what frames mean.
    """
    widest = [max(len(row.images[group]) for row in rows) for group in range(len(headings))]
    starts = np.cumsum([0, *(count * (_CELL + _GAP) + 2 * _GAP for count in widest)])
    step = _CELL + _CAPTION + _GAP
    height, width = len(rows) * step, _LABEL + int(starts[-1])
    canvas = np.ones((height, width, 3), np.float32)
    head = 64
    figure = Figure(figsize=(width / 100, (height + head) / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, height / (height + head)))
    for index, row in enumerate(rows):
        top = index * step
        axes.text(_LABEL - 8, top + _CELL / 2, label(row.label, 20), ha="right", va="center",
                  fontsize=9)  # fmt: skip
        for group, images in enumerate(row.images):
            for place, seen in enumerate(images):
                left = _LABEL + int(starts[group]) + place * (_CELL + _GAP)
                canvas[top : top + _CELL, left : left + _CELL] = _framed(seen)
                if seen.caption:
                    axes.text(left + _CELL / 2, top + _CELL + _CAPTION / 2,
                              label(seen.caption, _NAME), ha="center", va="center",
                              fontsize=7)  # fmt: skip
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.axis("off")
    figure.suptitle(f"{subject(case)}\n{note}", fontsize=9, y=0.995)
    for group, heading in enumerate(headings):
        if widest[group]:
            letters, size = (24, 9) if widest[group] > 1 else (17, 6.5)
            figure.text((_LABEL + int(starts[group])) / width, (height + 4) / (height + head),
                        label(heading, letters), fontsize=size, fontweight="bold")  # fmt: skip
    return png(figure)


def _framed(seen: SeenImage) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    inner = _CELL - 2 * _FRAME
    resized = functional.interpolate(
        seen.image[None].float() / 255, size=(inner, inner), mode="bilinear", antialias=True
    )[0]
    cell = np.empty((_CELL, _CELL, 3), np.float32)
    cell[:] = to_rgb(seen.colour)
    cell[_FRAME:-_FRAME, _FRAME:-_FRAME] = resized.permute(1, 2, 0).clamp(0, 1).numpy()
    return cell
