"""Charts of a board as SVG, in the colours of the page and with words for those who do not see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from bob.cost.table import DEFAULT_GPU
from bob.hashing import digest_of
from bob.report.board import Board, Correlation, Row, pareto, spearman
from bob.report.history import History

_WIDTH, _HEIGHT = 560, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 44
_CELL = 46
_LETTER, _LINE = 6.0, 11.0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What the scores are drawn against.

    Attributes:
        title: Of the chart.
        words: What the numbers are.
        value: The number of a row; 0 where it is not known.
        gain: What a backbone is that is better in this, in words.
        more_is_better: Whether a larger number is.
    """

    title: str
    words: str
    value: Callable[[Row], float]
    gain: str
    more_is_better: bool = False


_AXES = (
    Axis(title="Score against parameters", words="million parameters", gain="smaller",
         value=lambda row: row.facts.parameters_m),
    Axis(title="Score against pretraining data", words="million images of pretraining",
         gain="made from less data", value=lambda row: row.facts.pretraining_m),
    Axis(title="Score against throughput", words=f"images per second on {DEFAULT_GPU}, published",
         gain="faster", value=lambda row: row.facts.images_per_second, more_is_better=True),
    Axis(title="Score against running time", words="seconds of its runs", gain="sooner done",
         value=lambda row: row.seconds),
    Axis(title="Score against GPU-hours", words="GPU-hours of its runs", gain="cheaper to run",
         value=lambda row: row.gpu_hours),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Point:
    """One backbone of a scatter chart."""

    name: str
    family: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart and what it shows.

    Attributes:
        title: Its heading.
        svg: The picture, with a title and a description of its own.
        caption: What is to be seen, in a sentence.
    """

    title: str
    svg: str
    caption: str


def charts(board: Board) -> list[Chart]:
    """The charts that the rows of a board give; those of too few points are left out."""
    found = []
    for axis in _AXES:
        points = [
            Point(name=row.facts.backbone, family=row.facts.family, x=x, y=row.mean_z)
            for row in board.rows
            if (x := axis.value(row)) > 0
        ]
        if len(points) > 1 and len({point.x for point in points}) > 1:
            found.append(_scatter(axis, points, of=len(board.rows)))
    if any(entry.rho is not None for entry in board.correlations):
        found.append(_heatmap(board.tasks, board.correlations))
    return found


def _scatter(axis: Axis, points: Sequence[Point], *, of: int) -> Chart:
    """Mean z over the logarithm of x, the points that no other beats joined by a line."""
    logs = [math.log10(point.x) for point in points]
    low, high = min(logs), max(logs)
    pad = 0.05 * (high - low) or 0.1
    low, high = low - pad, high + pad
    least, most = min(point.y for point in points), max(point.y for point in points)
    room = 0.08 * (most - least) or 0.1
    least, most = least - room, most + room

    def across(log: float) -> float:
        return _LEFT + (log - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - least) / (most - least) * (_HEIGHT - _TOP - _BOTTOM)

    sign = -1 if axis.more_is_better else 1
    front = pareto([(sign * point.x, point.y) for point in points])
    rho = spearman([point.x for point in points], [point.y for point in points])
    told = "" if rho is None else f" Spearman's rho of the two is {rho:+.2f}."
    names = ", ".join(points[index].name for index in front)
    left_out = f" Not known of {of - len(points)} of {of}." if of > len(points) else ""
    caption = f"Nothing is both better and {axis.gain} than these: {names}.{told}{left_out}"
    parts = [_axes(axis.words, _ticks(low, high), across, least, most, down)]
    steps = " ".join(f"{across(logs[i]):.1f},{down(points[i].y):.1f}" for i in front)
    parts.append(f'<polyline class="front" points="{steps}"/>')
    written: list[tuple[float, float, float]] = []  # begin, end and height of each name
    for index, point in enumerate(points):
        x, y = across(logs[index]), down(point.y)
        kind = "dot best" if index in front else "dot"
        label = f"{point.name}: {point.x:,.4g} {axis.words}, mean z {point.y:+.2f}"
        parts.append(
            f'<g><circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f"<title>{escape(label)}</title></g>"
        )
        left = x > _WIDTH - 150
        anchor, length = "end" if left else "start", _LETTER * len(point.name)
        begins = x - 8 - length if left else x + 8
        free = not any(
            abs(y - other) < _LINE and begins < right and begins + length > begun
            for begun, right, other in written
        )
        if (index in front or len(points) <= 12) and free:
            written.append((begins, begins + length, y))
            parts.append(
                f'<text class="name" x="{x + (-8 if left else 8):.1f}" y="{y + 4:.1f}" '
                f'text-anchor="{anchor}">{escape(point.name)}</text>'
            )
    svg = _svg(axis.title, caption, _WIDTH, _HEIGHT, parts)
    return Chart(title=axis.title, svg=svg, caption=caption)


def _ticks(low: float, high: float) -> list[float]:
    """Logarithms of round numbers between two."""
    every = [
        math.log10(digit) + power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for digit in (1, 2, 5)
    ]
    found = [tick for tick in every if low <= tick <= high]
    if len(found) < 2:  # a narrow range: three values in it, rounded
        inside = (low + share * (high - low) for share in (0.1, 0.5, 0.9))
        return [math.log10(float(f"{10**tick:.2g}")) for tick in inside]
    step = math.ceil(len(found) / 7) or 1
    return found[::step]


def _axes(
    axis: str,
    ticks: Sequence[float],
    across: Callable[[float], float],
    least: float,
    most: float,
    down: Callable[[float], float],
) -> str:
    base = _HEIGHT - _BOTTOM
    parts = [f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>']
    for tick in ticks:
        x = across(tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{base}"/>'
            f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{10**tick:g}</text>'
        )
    step = _step((most - least) / 5)
    value = math.ceil(least / step) * step
    while value <= most:
        y = down(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{round(value, 6) + 0.0:g}</text>"
        )
        value += step
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(axis)}'
        '</text><text transform="rotate(-90)" '
        f'x="{-(_HEIGHT - _BOTTOM) / 2:.0f}" y="13" text-anchor="middle">mean z</text>'
    )
    return "".join(parts)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough)


def _heatmap(tasks: Sequence[str], correlations: Sequence[Correlation]) -> Chart:
    """Correlations of tasks; what is known of too few backbones is empty."""
    known = {(entry.first, entry.second): entry for entry in correlations}
    known |= {(entry.second, entry.first): entry for entry in correlations}
    left, top = 8 + 7 * max(map(len, tasks)), 6
    width, height = left + _CELL * len(tasks) + 8, top + _CELL * len(tasks) + left
    parts = []
    for row, first in enumerate(tasks):
        y = top + row * _CELL
        parts.append(
            f'<text x="{left - 6}" y="{y + _CELL / 2 + 4}" text-anchor="end">{escape(first)}</text>'
        )
        for column, second in enumerate(tasks):
            x = left + column * _CELL
            entry = known.get((first, second))
            rho = 1.0 if first == second else entry.rho if entry else None
            if rho is None:
                continue
            kind = "positive" if rho >= 0 else "negative"
            count = f", {entry.count} backbones" if entry else ""
            parts.append(
                f'<g><rect class="{kind}" x="{x}" y="{y}" width="{_CELL - 2}" '
                f'height="{_CELL - 2}" fill-opacity="{abs(rho):.2f}"/><text class="cell" '
                f'x="{x + _CELL / 2 - 1}" y="{y + _CELL / 2 + 4}" text-anchor="middle">{rho:.2f}'
                f"</text><title>{escape(f'{first} and {second}: {rho:+.2f}{count}')}</title></g>"
            )
    below = top + _CELL * len(tasks) + 8
    for column, second in enumerate(tasks):
        parts.append(
            f'<text transform="translate({left + (column + 0.5) * _CELL + 4:g},{below}) '
            f'rotate(-90)" text-anchor="end">{escape(second)}</text>'
        )
    weakest = min(
        (entry for entry in correlations if entry.rho is not None), key=lambda entry: entry.rho or 0
    )
    caption = (
        "Spearman's rank correlation of the mean z-scores of two tasks over the backbones that "
        f"have both. The least is that of {weakest.first} and {weakest.second}, {weakest.rho:+.2f}."
    )
    title = "What goes with what"
    return Chart(title=title, svg=_svg(title, caption, width, height, parts), caption=caption)


def sparkline(history: History) -> str:
    """A history as a small picture: a dot for each session, a mark at each step."""
    width, height, pad = 240, 64, 8
    values = [point.value for point in history.points]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def place(index: int) -> tuple[float, float]:
        x = pad + index * (width - 2 * pad) / max(1, len(values) - 1)
        return x, height - pad - (values[index] - low) / span * (height - 2 * pad)

    at = [place(index) for index in range(len(values))]
    parts = [f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>']
    sessions = [point.session for point in history.points]
    for step in history.steps:
        index = sessions.index(step.after.session)
        x = (at[index - 1][0] + at[index][0]) / 2
        kind = "worse" if step.worse else "gain"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" y1="2" x2="{x:.1f}" y2="{height - 2}"/>')
    for (x, y), point in zip(at, history.points, strict=True):
        label = f"{point.time[:10]} {point.commit[:9]} {point.value:.4f}"
        parts.append(
            f'<g><circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
            f"<title>{escape(label)}</title></g>"
        )
    last = f"{len(values)} sessions from {values[0]:.4f} to {values[-1]:.4f}"
    title = f"{history.backbone} {history.setting}"
    return _svg(title, last, width, height, parts)


def _svg(title: str, caption: str, width: float, height: float, parts: Sequence[str]) -> str:
    name = f"c{digest_of(title, length=10)}"
    return (
        f'<svg role="img" aria-labelledby="{name}t {name}d" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">'
        f'<title id="{name}t">{escape(title)}</title><desc id="{name}d">{escape(caption)}</desc>'
        f"{''.join(parts)}</svg>"
    )
