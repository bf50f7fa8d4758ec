"""The backbones of Score rows in order: mean z-score, and how much of the order is noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np

from bob.ledger.score import RunId, Score
from bob.ledger.units import Units
from bob.report.cells import Cell, cell
from bob.report.significance import Difference, difference

ALPHA = 0.05
"""Neighbours whose difference has a higher p-value are tied."""

_ROUNDED = 1e-4
"""Difference of z-scores that may be rounding: scores have single precision, outcomes have not."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One backbone's place.

    Attributes:
        rank: From 1; tied backbones share the best of their ranks.
        tied: Whether the difference to a neighbour is within noise. False where nothing can be
            tested: the rank is then the place in the order and says nothing of luck.
        mean_z: Mean of ``z`` over its settings.
        z: By setting; those with two backbones or more.
        wins: Settings in which no backbone is better.
        p_next: Chance of so large a difference to the next backbone if there were none, over the
            settings both have; none for the last and where nothing can be tested.
        disputed: Whether the next backbone is ahead in the settings that ``p_next`` is of: the
            order comes from others, and the two are tied whatever ``p_next`` is.
        one_seed: Whether nothing can be tested because a seeded score was trained on one seed.
    """

    backbone: str
    rank: int
    tied: bool
    mean_z: float
    z: Mapping[str, float]
    wins: int
    p_next: float | None
    disputed: bool = False
    one_seed: bool = False


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Standings, best first, and the scores they rest on.

    Attributes:
        cells: By setting (``task/dataset metric``) and backbone.
        unranked: Backbones without a score in any setting that another has a score in.
    """

    standings: tuple[Standing, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    unranked: tuple[str, ...] = ()


def rank(
    rows: Iterable[Score],
    *,
    units: Mapping[RunId, Units] | None = None,
    backbones: Iterable[str] = (),
) -> Ranking | None:
    """Rank the backbones of some rows; none where no setting has scores of two.

    The protocol is the paper's: in each setting the z-score across backbones, averaged over the
    settings that a backbone has.

    Args:
        rows: Of scores proper and of one scale, a row a seed (see ``sources.newest``). A score that
            is not finite is left out. Of a seed that ran as check and for a reference the last row
            counts: it is one run, done twice.
        units: Outcomes per image or query, by ``Score.run``, where they are at hand; see
            ``units_of``. Two backbones' are compared one by one, and other scores by their
            intervals.
        backbones: Those that ran, so that one without a score is named among the unranked.
    """
    groups: dict[tuple[str, str], dict[int, Score]] = {}
    keys = set(backbones)
    for row in sorted(rows, key=lambda row: (row.setting, row.metric, row.backbone, row.seed)):
        keys.add(row.backbone)
        if math.isfinite(row.value):
            name = f"{row.setting} {row.metric}"
            groups.setdefault((name, row.backbone), {})[row.seed] = row
    cells: dict[str, dict[str, Cell]] = {}
    for (name, backbone), seeds in groups.items():
        cells.setdefault(name, {})[backbone] = cell(list(seeds.values()), units)
    return rank_cells({name: cells[name] for name in sorted(cells)}, sorted(keys))


def rank_cells(cells: Mapping[str, Mapping[str, Cell]], backbones: Sequence[str]) -> Ranking | None:
    """Rank by scores; see ``rank``."""
    spreads = spreads_of(cells)
    z: dict[str, dict[str, float]] = {}
    wins = dict.fromkeys(backbones, 0)
    for name, row in cells.items():
        if len(row) < 2:
            continue
        mean = fmean(entry.value for entry in row.values())
        best = max(entry.better * entry.value for entry in row.values())
        for key, entry in row.items():
            apart = entry.better * (entry.value - mean)
            z.setdefault(key, {})[name] = apart / spreads[name] if spreads[name] else 0.0
            wins[key] += entry.better * entry.value == best
    if len(z) < 2:
        return None
    order = sorted(z, key=lambda key: (-fmean(z[key].values()), key))
    steps = [difference(cells, spreads, first, second) for first, second in pairwise(order)]
    same = [_tied(step) for step in steps]
    steps.append(Difference(p=None))
    standings: list[Standing] = []
    for place, (key, step) in enumerate(zip(order, steps, strict=True)):
        with_last = place > 0 and same[place - 1]
        standings.append(
            Standing(
                backbone=key,
                rank=standings[-1].rank if with_last else place + 1,
                tied=with_last or (place < len(same) and same[place]),
                mean_z=fmean(z[key].values()),
                z=z[key],
                wins=wins[key],
                p_next=step.p,
                disputed=_disputed(step),
                one_seed=step.one_seed,
            )
        )
    return Ranking(
        standings=tuple(standings),
        cells=cells,
        unranked=tuple(key for key in backbones if key not in z),
    )


def spreads_of(cells: Mapping[str, Mapping[str, Cell]]) -> dict[str, float]:
    """Population standard deviation of each setting's scores; 0 where all are equal."""
    return {name: _spread([entry.value for entry in row.values()]) for name, row in cells.items()}


def tie_groups(cells: Mapping[str, Mapping[str, Cell]], order: Sequence[str]) -> list[int]:
    """The group of each backbone in a ranking, counted from 1.

    A group holds those that cannot be told from the first of it. Unlike a row of neighbours that
    are tied two by two, it does not lead from the best to the worst in small steps. Where nothing
    can be tested each stands alone.

    Args:
        cells: By setting and backbone.
        order: Backbones, best first.
    """
    spreads = spreads_of(cells)
    found: list[int] = []
    for place, key in enumerate(order):
        if not place:
            found.append(1)
            continue
        leader = order[found.index(found[-1])]
        alike = _tied(difference(cells, spreads, leader, key))
        found.append(found[-1] + (not alike))
    return found


def _disputed(step: Difference) -> bool:
    return step.p is not None and step.ahead < -_ROUNDED


def _tied(step: Difference) -> bool:
    return step.p is not None and (step.p >= ALPHA or _disputed(step))


def _spread(values: Sequence[float]) -> float:
    found = float(np.std(values))
    return found if found > 1e-9 else 0.0  # equal scores may differ by rounding
