"""The board: backbones in order, how sure that order is, and what goes with what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import fmean

import numpy as np

from bob.case import Verdict
from bob.errors import some
from bob.ledger.score import RunId, Score, ordered_tasks
from bob.ledger.units import Units
from bob.report.bootstrap import rank_intervals
from bob.report.cells import Cell, cell
from bob.report.drawn import Drawing
from bob.report.facts import Facts
from bob.report.ranking import rank_cells, tie_groups

SMALL = 30.0
"""Millions of parameters below which the paper calls a backbone small."""

FEWEST = 4
"""Backbones from which on a correlation is told."""

MOST_DETECTIONS = 1_500_000
"""Of all runs together that a board draws images for; more would take minutes."""

VerdictKey = tuple[str, str]
"""Backbone, and setting without the metric."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backbone that has a score in every setting.

    Attributes:
        rank: From 1; a tie group shares the best of its ranks.
        group: Number of its tie group, from 1; see ``ranking.tie_groups``.
        low: Best rank of 95 % of the draws (see ``bootstrap``), or of its tie group.
        high: Worst of either.
        mean_z: Mean of its z-scores over all settings.
        by_task: Mean of its z-scores by task.
        seconds: What its runs took, added up.
        gpu_hours: Of those, on a GPU.
    """

    facts: Facts
    rank: int
    group: int
    low: int
    high: int
    mean_z: float
    by_task: Mapping[str, float]
    seconds: float
    gpu_hours: float


@dataclass(frozen=True, kw_only=True)
class Incomplete:
    """A backbone that lacks settings, and is therefore not ranked.

    Attributes:
        have: How many it has.
        lacking: Settings that it lacks, without their metrics.
    """

    facts: Facts
    have: int
    lacking: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A backbone that answers a question."""

    question: str
    backbone: str
    because: str


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation over the backbones that have both.

    Attributes:
        rho: None where fewer than ``FEWEST`` have both, or all are equal.
    """

    first: str
    second: str
    rho: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything a report shows.

    Attributes:
        settings: ``task/dataset metric``, in the order of the protocols.
        tasks: In the order of the protocols.
        cells: By setting and backbone, complete or not.
        setting_ranks: Intervals of the ranks in each setting, of the complete rows.
        newest: The newest row of each setting and backbone, by which it is found again.
        verdicts: The newest verdict of each.
        disagreements: In words, where two metrics of one setting order backbones differently.
        published: In words, what is told of scores that others published.
    """

    scale: str
    settings: tuple[str, ...]
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    incomplete: tuple[Incomplete, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    facts: Mapping[str, Facts]
    setting_ranks: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    newest: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    verdicts: Mapping[VerdictKey, Verdict] = field(default_factory=dict)
    picks: tuple[Pick, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    disagreements: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


def make_board(
    scores: Iterable[Score],
    *,
    scale: str,
    units: Mapping[RunId, Units],
    facts: Mapping[str, Facts],
    verdicts: Mapping[VerdictKey, Verdict] | None = None,
    others: Iterable[Score] = (),
    drawing: Drawing | None = None,
    published: Iterable[str] = (),
) -> Board:
    """The board of some scores.

    Args:
        scores: Scores proper of one scale; see ``sources.current``.
        scale: Its name.
        units: Outcomes per image or query, by ``Score.run``.
        facts: By backbone.
        verdicts: The newest of each backbone and setting.
        others: Further judged metrics of the same runs.
        drawing: Where scores that are no mean over images are drawn, for the ranks of the draws;
            ties are of the other scores. Nothing is drawn for more than ``MOST_DETECTIONS``.
        published: What is to be told of scores that others published.
    """
    groups: dict[str, dict[str, list[Score]]] = {}
    scores = [score for score in scores if math.isfinite(score.value)]
    for score in scores:
        name = f"{score.setting} {score.metric}"
        groups.setdefault(name, {}).setdefault(score.backbone, []).append(score)
    tasks = ordered_tasks(scores)
    names = sorted(groups, key=lambda name: (tasks.index(name.split("/")[0]), name))
    cells = {
        name: {key: cell(rows, units) for key, rows in sorted(groups[name].items())}
        for name in names
    }
    backbones = sorted({score.backbone for score in scores})
    shared = [name for name in names if len(cells[name]) > 1]
    complete = [key for key in backbones if all(key in cells[name] for name in shared)]
    board_cells = {name: {key: cells[name][key] for key in complete} for name in shared}
    intervals = rank_intervals(_with_draws(board_cells, groups, drawing), complete)
    rows = _rows(board_cells, complete, intervals.overall, facts, scores)
    z = _z_by_task(cells)
    return Board(
        scale=scale,
        settings=tuple(names),
        tasks=tuple(tasks),
        rows=rows,
        incomplete=tuple(
            _incomplete(facts[key], cells, shared)
            for key in backbones
            if shared and key not in {row.facts.backbone for row in rows}
        ),
        cells=cells,
        facts=facts,
        setting_ranks=intervals.by_setting,
        newest={
            name: {key: max(rows, key=lambda row: row.time) for key, rows in by_backbone.items()}
            for name, by_backbone in groups.items()
        },
        verdicts=verdicts or {},
        picks=_picks(rows),
        correlations=tuple(
            _correlation(first, second, z[first], z[second])
            for first, second in combinations(tasks, 2)
        ),
        disagreements=tuple(_disagreements(scores, others)),
        published=tuple(published),
    )


def _with_draws(
    cells: Mapping[str, Mapping[str, Cell]],
    groups: Mapping[str, Mapping[str, Sequence[Score]]],
    drawing: Drawing | None,
) -> Mapping[str, Mapping[str, Cell]]:
    """Cells with the draws of their rows, if these are not more than there is time for."""
    if drawing is None or drawing.detections > MOST_DETECTIONS:
        return cells
    return {
        name: {
            key: replace(entry, drawn=drawing.of(groups[name][key])) for key, entry in row.items()
        }
        for name, row in cells.items()
    }


def _rows(
    cells: Mapping[str, Mapping[str, Cell]],
    complete: Sequence[str],
    intervals: Mapping[str, tuple[int, int]],
    facts: Mapping[str, Facts],
    scores: Sequence[Score],
) -> tuple[Row, ...]:
    ranking = rank_cells(cells, complete) if cells and complete else None
    if ranking is None:
        return ()
    order = [standing.backbone for standing in ranking.standings]
    groups = tie_groups(cells, order)
    rows = []
    for standing, group in zip(ranking.standings, groups, strict=True):
        by_task: dict[str, list[float]] = {}
        for name, value in standing.z.items():
            by_task.setdefault(name.split("/")[0], []).append(value)
        own = {score.run: score for score in scores if score.backbone == standing.backbone}
        rows.append(
            Row(
                facts=facts[standing.backbone],
                rank=groups.index(group) + 1,
                group=group,
                low=min(intervals[standing.backbone][0], groups.index(group) + 1),
                high=max(intervals[standing.backbone][1], len(groups) - groups[::-1].index(group)),
                mean_z=standing.mean_z,
                by_task={task: fmean(values) for task, values in by_task.items()},
                seconds=sum(score.seconds for score in own.values()),
                gpu_hours=sum(score.gpu_hours for score in own.values()),
            )
        )
    return tuple(rows)


def _incomplete(
    facts: Facts, cells: Mapping[str, Mapping[str, Cell]], shared: Sequence[str]
) -> Incomplete:
    lacking = [name for name in shared if facts.backbone not in cells[name]]
    return Incomplete(
        facts=facts,
        have=len(shared) - len(lacking),
        lacking=tuple(name.split(" ")[0] for name in lacking),
    )


def _z_by_task(cells: Mapping[str, Mapping[str, Cell]]) -> dict[str, dict[str, float]]:
    """Mean z-score by task and backbone, over the settings that each has."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, row in cells.items():
        task = found.setdefault(name.split("/")[0], {})
        values = np.array([entry.better * entry.value for entry in row.values()])
        spread = float(values.std())
        for key, value in zip(row, values - values.mean(), strict=True):
            task.setdefault(key, []).append(float(value) / spread if spread > 1e-9 else 0.0)
    return {
        task: {key: fmean(values) for key, values in by_backbone.items()}
        for task, by_backbone in found.items()
    }


def _correlation(
    first: str, second: str, ours: Mapping[str, float], theirs: Mapping[str, float]
) -> Correlation:
    both = sorted(ours.keys() & theirs.keys())
    rho = spearman([ours[key] for key in both], [theirs[key] for key in both])
    return Correlation(first=first, second=second, rho=rho, count=len(both))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; none for fewer than ``FEWEST`` or where all are equal."""
    if len(first) < FEWEST or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def _picks(rows: Sequence[Row]) -> tuple[Pick, ...]:
    """The best of all, the best small one, and the best for its cost."""
    if not rows:
        return ()
    found = [_pick("Best of all", rows)]
    small = [row for row in rows if 0 < row.facts.parameters_m < SMALL]
    if small and len(small) < len(rows):
        found.append(_pick(f"Best below {SMALL:g} M parameters", small))
    costly = [row for row in rows if row.seconds > 0]
    if len(costly) == len(rows) > 2:
        median = float(np.median([row.seconds for row in rows]))
        cheap = [row for row in rows if row.seconds <= median]
        found.append(_pick("Best of the half that ran fastest", cheap))
    return tuple(found)


def _pick(question: str, rows: Sequence[Row]) -> Pick:
    best = rows[0]
    rivals = [row.facts.backbone for row in rows[1:] if row.group == best.group]
    told = f"; not told from {some(rivals)}" if rivals else ""
    return Pick(
        question=question,
        backbone=best.facts.backbone,
        because=f"mean z {best.mean_z:+.2f}, rank {between(best.low, best.high)}{told}",
    )


def between(low: int, high: int) -> str:
    """An interval of ranks in words."""
    return str(low) if low == high else f"{low} to {high}"


def _disagreements(scores: Sequence[Score], others: Iterable[Score]) -> Iterable[str]:
    """Where another judged metric has another best backbone than the score."""
    means: dict[tuple[str, str], dict[str, list[float]]] = {}
    proper: dict[str, str] = {}
    for score in [*scores, *(row for row in others if row.metric != "train_loss")]:
        sign = -1 if score.higher_is_better is False else 1
        row = means.setdefault((score.setting, score.metric), {})
        row.setdefault(score.backbone, []).append(sign * score.value)
        if score.is_score:
            proper[score.setting] = score.metric
    best = {key: _best(row) for key, row in means.items()}
    for (setting, metric), key in sorted(best.items()):
        main = proper.get(setting, metric)
        first = best[setting, main]
        if metric != main and key != first and first in means[setting, metric]:
            yield f"{setting}: by {main} the best is {first}, by {metric} it is {key}."


def _best(row: Mapping[str, Sequence[float]]) -> str:
    found = {key: fmean(values) for key, values in row.items()}
    return max(found, key=lambda key: found[key])


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points that no other beats: less of the first, more of the second."""
    found, most = [], -np.inf
    for index in sorted(
        range(len(points)), key=lambda index: (points[index][0], -points[index][1])
    ):
        if points[index][1] > most:
            most = points[index][1]
            found.append(index)
    return found
