"""Scores over sessions in time: where they changed, and between which commits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from bob.ledger.score import Score

FEWEST = 3
"""Sessions from which on a history is told."""

_PENALTY = 3.0
_MAD = 1.4826
"""What the median absolute deviation of normal values is multiplied by to give their deviation."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one session measured of one case.

    Attributes:
        value: Mean over its seeds.
        time: Of its newest result.
        commit: It ran at; empty where that is not known.
    """

    session: str
    time: str
    commit: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change of level.

    Attributes:
        before: Last session of the old level.
        after: First session of the new one.
        old: Mean of the old level.
        new: Mean of the new one.
        worse: Whether it is a change for the worse.
    """

    before: Point
    after: Point
    old: float
    new: float
    worse: bool


@dataclass(frozen=True, kw_only=True)
class History:
    """One backbone in one setting.

    Attributes:
        points: Oldest first.
        steps: Oldest first.
    """

    backbone: str
    setting: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]


def histories(
    scores: Iterable[Score], *, commits: Mapping[str, str], margin: Callable[[Score], float]
) -> list[History]:
    """The histories of cases that ``FEWEST`` sessions or more ran alike.

    Alike are sessions of the newest one's protocol and data and, where a seed matters, its seeds.

    Args:
        scores: Scores proper of one scale, of all sessions.
        commits: By session.
        margin: The least difference of a score that matters.

    Returns:
        Those that became worse last first, then the others with steps, then the rest.
    """
    groups: dict[tuple[str, str], dict[str, list[Score]]] = {}
    newest: dict[tuple[str, str], Score] = {}
    for score in sorted(scores, key=lambda score: score.time):
        if score.session and math.isfinite(score.value):
            key = score.backbone, f"{score.setting} {score.metric}"
            groups.setdefault(key, {}).setdefault(score.session, []).append(score)
            newest[key] = score
    found = []
    for key, sessions in groups.items():
        last = newest[key]
        seeds = _seeds(sessions[last.session])
        points = [
            Point(
                session=session,
                time=max(row.time for row in rows),
                commit=commits.get(session, ""),
                value=fmean(row.value for row in rows),
            )
            for session, rows in sessions.items()
            if {(row.protocol, row.data) for row in rows} == {(last.protocol, last.data)}
            and (last.seeded is False or _seeds(rows) == seeds)  # others have other luck
        ]
        if len(points) >= FEWEST:
            better = -1 if last.higher_is_better is False else 1
            steps = _steps(points, margin(last), better)
            found.append(
                History(backbone=key[0], setting=key[1], points=tuple(points), steps=tuple(steps))
            )
    return sorted(found, key=_urgency)


def _seeds(rows: Iterable[Score]) -> set[int]:
    return {row.seed for row in rows}


def _urgency(history: History) -> tuple[int, str, str]:
    worse = bool(history.steps) and history.steps[-1].worse
    return (0 if worse else 1 if history.steps else 2), history.backbone, history.setting


def _steps(points: Sequence[Point], margin: float, better: int) -> list[Step]:
    edges = segments([point.value for point in points], margin)
    found = []
    for first, middle, last in zip(edges, edges[1:], edges[2:], strict=False):
        old = fmean(point.value for point in points[first:middle])
        new = fmean(point.value for point in points[middle:last])
        if abs(new - old) >= margin and new != old:
            found.append(
                Step(
                    before=points[middle - 1], after=points[middle], old=old, new=new,
                    worse=better * (new - old) < 0,
                )
            )  # fmt: skip
    return found


def segments(values: Sequence[float], margin: float) -> list[int]:
    """Edges of the stretches of one level: 0, each first position of a new level, and the end.

    The piecewise constant fit of least squares, each further level at the price of three times the
    variance times the logarithm of the number of values (as the Bayesian criterion has it for
    a level and its place). The deviation is that of differences of neighbours, by their median (the
    lower one of two), so that steps do not count; it is never below a third of the margin.

    Args:
        values: In time.
        margin: The least difference that matters.
    """
    x = np.asarray(values, np.float64)
    count = len(x)
    apart = np.sort(np.abs(np.diff(x)))
    noise = _MAD * float(apart[(len(apart) - 1) // 2]) / math.sqrt(2) if count > 1 else 0.0
    price = _PENALTY * max(noise, margin / 3, 1e-9) ** 2 * math.log(max(count, 2))
    sums, squares = np.concatenate([[0], x.cumsum()]), np.concatenate([[0], (x * x).cumsum()])
    cost, back = np.zeros(count + 1), np.zeros(count + 1, np.int64)
    cost[0] = -price
    for end in range(1, count + 1):
        starts = np.arange(end)
        total = sums[end] - sums[starts]
        spread = squares[end] - squares[starts] - total * total / (end - starts)
        whole = cost[starts] + spread + price
        back[end] = int(whole.argmin())
        cost[end] = whole[back[end]]
    edges = [count]
    while edges[-1]:
        edges.append(int(back[edges[-1]]))
    return edges[::-1]
