"""Where between the values of a grid a loss is least."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FLAT = 1e-9
"""Share of a loss below which differences are rounding."""


@dataclass(frozen=True)
class LeastLoss:
    """Where a loss is least.

    Attributes:
        c: The value; between two of the grid as a rule.
        nearest: Position in the grid of the value below it, or of itself.
        at_edge: Whether it is an end of the grid towards which the loss still falls.
    """

    c: float
    nearest: int
    at_edge: bool


def least_between(
    values: Sequence[float],
    losses: Sequence[float],
    refine: Callable[[int, int], Sequence[float]],
) -> LeastLoss:
    """The lowest point of the parabola over log C through the best value and its neighbours.

    It moves continuously with the losses, where the best value jumps between neighbours that are as
    good: with equal losses either parabola is lowest halfway between the two. At an end of the grid
    the parabola is that of the three last values, and its lowest point may not lie beyond.

    Args:
        values: Ascending, positive.
        losses: Of each value, roughly.
        refine: Gives the losses of ``values[first:last]`` closely, asked for as ``(first, last)``.

    Returns:
        One of the values, the smallest of the best, where there are fewer than three or where their
        losses differ by rounding alone.
    """
    if len(values) < 3:
        best = min(range(len(values)), key=lambda place: losses[place])
        return LeastLoss(values[best], best, at_edge=False)
    middle = min(max(_argmin(losses), 1), len(values) - 2)
    asked: set[int] = set()
    while True:
        asked.add(middle)
        around = list(refine(middle - 1, middle + 2))
        onward = min(max(middle + _argmin(around) - 1, 1), len(values) - 2)
        if onward in asked:
            break
        middle = onward
    three = [math.log(value) for value in values[middle - 1 : middle + 2]]
    if max(around) - min(around) <= FLAT * abs(max(around)):
        return LeastLoss(values[middle - 1], middle - 1, at_edge=False)
    lowest = _vertex(three, around)
    if three[0] < lowest < three[2]:
        below = middle - 1 + (lowest >= three[1])
        return LeastLoss(math.exp(lowest), below, at_edge=False)
    edge = middle - 1 if lowest <= three[0] else middle + 1
    return LeastLoss(values[edge], edge, at_edge=True)


def _vertex(places: Sequence[float], losses: Sequence[float]) -> float:
    """Where the parabola through three points is lowest; an infinity where it only falls."""
    (a, b, c), (fa, fb, fc) = places, losses
    left, right = (fb - fa) / (b - a), (fc - fb) / (c - b)
    bend = (right - left) / (c - a)
    if bend <= 0:
        return math.inf if fc < fa else -math.inf
    return (a + b) / 2 - left / (2 * bend)


def _argmin(losses: Sequence[float]) -> int:
    return min(range(len(losses)), key=lambda place: losses[place])
