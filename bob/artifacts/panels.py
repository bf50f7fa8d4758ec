"""What a retrieval found, as a picture: a query and its first results in each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn import functional

from bob.artifacts.lettering import png
from bob.artifacts.plots import title
from bob.case import Case

COLOURS = {"right": "tab:green", "wrong": "tab:red", "junk": "tab:grey"}
_CELL = 72
_FRAME = 4
_GAP = 6
_LABEL = 150


@dataclass(frozen=True)
class PanelRow:
    """One query.

    Attributes:
        query: uint8 ``(3, height, width)``.
        label: Its class and score, a line each.
        found: Results, best first: image and ``right``, ``wrong`` or ``junk``.
    """

    query: torch.Tensor
    label: str
    found: Sequence[tuple[torch.Tensor, str]]


def retrieval_panel(case: Case, rows: Sequence[PanelRow], score: str) -> bytes:
    """Queries with their first results, framed by whether they are right.

    One mosaic in one set of axes: an axes object for every image takes seconds to draw.

    Args:
        case: For the title.
        rows: Queries, in the order to show.
        score: The case's score in words.
    """
    step = _CELL + _GAP
    columns = 1 + max(len(row.found) for row in rows)
    height, width = len(rows) * step, _LABEL + columns * step + _GAP
    canvas = np.ones((height, width, 3), np.float32)
    for index, row in enumerate(rows):
        cells = [(row.query, "black"), *((image, COLOURS[mark]) for image, mark in row.found)]
        for place, (image, colour) in enumerate(cells):
            left = _LABEL + place * step + (_GAP if place else 0)
            top = index * step
            canvas[top : top + _CELL, left : left + _CELL] = _framed(image, colour)
    figure = Figure(figsize=(width / 100, (height + 44) / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, height / (height + 44)))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.axis("off")
    for index, row in enumerate(rows):
        middle = index * step + _CELL / 2
        axes.text(_LABEL - 8, middle, row.label, ha="right", va="center", fontsize=9)
    legend = ", ".join(f"{colour.removeprefix('tab:')} {mark}" for mark, colour in COLOURS.items())
    figure.suptitle(
        f"{title(case)}\n{score}; query, then its first results: {legend}", fontsize=9, y=0.995
    )
    return png(figure)


def _framed(image: torch.Tensor, colour: str) -> NDArray[np.float32]:
    """An image ``(3, h, w)`` as ``(cell, cell, 3)`` with a frame."""
    inner = _CELL - 2 * _FRAME
    resized = functional.interpolate(image[None].float() / 255, size=(inner, inner))[0]
    cell = np.empty((_CELL, _CELL, 3), np.float32)
    cell[:] = to_rgb(colour)
    cell[_FRAME:-_FRAME, _FRAME:-_FRAME] = resized.permute(1, 2, 0).numpy()
    return cell
