"""What a retrieval found, as a picture: a query and its first results in each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bob.case import Case
from bob.report.plots import png, title

COLOURS = {"right": "tab:green", "wrong": "tab:red", "junk": "tab:grey"}
_INCHES = 0.85


@dataclass(frozen=True)
class PanelRow:
    """One query.

    Attributes:
        query: uint8 ``(3, height, width)``.
        label: Its class and score.
        found: Results, best first: image and ``right``, ``wrong`` or ``junk``.
    """

    query: torch.Tensor
    label: str
    found: Sequence[tuple[torch.Tensor, str]]


def retrieval_panel(case: Case, rows: Sequence[PanelRow], score: str) -> bytes:
    """Queries with their first results, framed by whether they are right.

    Args:
        case: For the title.
        rows: Queries, in the order to show.
        score: The case's score in words.
    """
    columns = 1 + max(len(row.found) for row in rows)
    figure = Figure(
        figsize=(_INCHES * (columns + 0.4), _INCHES * 1.18 * len(rows) + 0.9),
        dpi=100,
        layout="constrained",
    )
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, axes in zip(rows, grid, strict=True):
        _show(axes[0], row.query, "black", 1.0)
        axes[0].set_title(row.label, fontsize=7)
        for place, cell in enumerate(axes[1:]):
            if place < len(row.found):
                image, mark = row.found[place]
                _show(cell, image, COLOURS[mark], 2.5)
                cell.set_title(str(place + 1), fontsize=6, color=COLOURS[mark])
            else:
                cell.axis("off")
    legend = ", ".join(f"{colour.removeprefix('tab:')} {mark}" for mark, colour in COLOURS.items())
    figure.suptitle(f"{title(case)}\n{score}; query, then its first results: {legend}", fontsize=9)
    return png(figure)


def _show(axes: Axes, image: torch.Tensor, colour: str, width: float) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor(colour)
        spine.set_linewidth(width)
