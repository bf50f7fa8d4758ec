"""Ranks under resampling: of test images together for all backbones, and of each one's seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bob.report.cells import Cell

Values = NDArray[np.float64]

DRAWS = 1000
_MOST = 40_000_000
"""Weights of images that are drawn for one dataset at most; fewer draws where it is larger."""
_FEWEST_DRAWS = 200
_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class RankIntervals:
    """Ranks that 95 % of the draws lie between.

    Attributes:
        overall: By backbone, of the mean z-score.
        by_setting: By setting and backbone.
    """

    overall: Mapping[str, tuple[int, int]]
    by_setting: Mapping[str, Mapping[str, tuple[int, int]]]


def rank_intervals(
    cells: Mapping[str, Mapping[str, Cell]], backbones: Sequence[str], *, seed: int = 0
) -> RankIntervals:
    """How far ranks move with other test images and other seeds.

    Images that several settings share are drawn once for all of them, and so for all backbones.
    Seeds are drawn for each backbone and setting apart; one seed does not move, which is told
    beside the board. A score that is no mean over images moves with the draws it comes with, if all
    come with the same. Another without outcomes by image moves by its standard error where it has
    one, and stays where it is where it has none.

    Args:
        cells: By setting and backbone; every backbone has a score in each setting.
        backbones: Those that are ranked.
        seed: Of the draws.
    """
    if not cells or len(backbones) < 2:
        return RankIntervals(overall={}, by_setting={})
    rng = np.random.default_rng(seed)
    largest = max((len(units) for units in _all_units(cells)), default=1)
    draws = int(max(_FEWEST_DRAWS, min(DRAWS, _MOST // largest)))
    moved = _moved_by_images(cells, backbones, draws, rng)
    total = np.zeros((len(backbones), draws))
    by_setting: dict[str, dict[str, tuple[int, int]]] = {}
    for name, row in cells.items():
        scores = moved[name]
        for index, key in enumerate(backbones):
            scores[index] += _luck(row[key], draws, rng)
        better = row[backbones[0]].better * scores
        spread = better.std(axis=0)
        total += (better - better.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
        by_setting[name] = _between(better, backbones)
    return RankIntervals(overall=_between(total, backbones), by_setting=by_setting)


def _all_units(cells: Mapping[str, Mapping[str, Cell]]) -> list[Values]:
    return [cell.units for row in cells.values() for cell in row.values() if cell.units is not None]


def _moved_by_images(
    cells: Mapping[str, Mapping[str, Cell]],
    backbones: Sequence[str],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Values]:
    """Scores under drawn images, ``(backbones, draws)`` by setting."""
    moved: dict[str, Values] = {}
    together: dict[tuple[str, int], list[str]] = {}
    for name, row in cells.items():
        kinds = {(row[key].units_of, _count(row[key])) for key in backbones}
        values = np.array([row[key].value for key in backbones])
        moved[name] = np.repeat(values[:, None], draws, axis=1)
        drawn = [entry for key in backbones if (entry := row[key].drawn) is not None]
        if len(drawn) == len(backbones) and all(entry.lists == drawn[0].lists for entry in drawn):
            for index, entry in enumerate(drawn):
                for steps in entry.moved.values():
                    moved[name][index] += np.resize(steps, draws)
        elif len(kinds) == 1 and min(kinds)[1]:
            together.setdefault(min(kinds), []).append(name)
        else:
            errors = np.array([row[key].image_error or 0.0 for key in backbones])
            moved[name] += errors[:, None] * rng.standard_normal((len(backbones), draws))
    for (_, count), names in together.items():
        units = {
            name: np.stack([np.asarray(cells[name][key].units, np.float32) for key in backbones])
            for name in names
        }
        step = max(1, _AT_ONCE // count)
        for start in range(0, draws, step):
            size = min(step, draws - start)
            weights = rng.multinomial(count, np.full(count, 1 / count), size=size)
            share = (weights / count).astype(np.float32).T
            for name in names:
                moved[name][:, start : start + size] = units[name] @ share
    return moved


def _count(cell: Cell) -> int:
    return 0 if cell.units is None else len(cell.units)


def _luck(cell: Cell, draws: int, rng: np.random.Generator) -> Values:
    """What other seeds of the same number would add, ``(draws,)``."""
    values = np.array([*cell.by_seed.values()])
    if not cell.seeded or len(values) < 2:
        return np.zeros(draws)
    drawn = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    # the mean of m drawn seeds spreads less than the mean of m seeds, by (m - 1) / m
    inflated = (drawn - values.mean()) * np.sqrt(len(values) / (len(values) - 1))
    return np.asarray(inflated, np.float64)


def _between(better: Values, backbones: Sequence[str]) -> dict[str, tuple[int, int]]:
    from scipy.stats import rankdata

    ranks = rankdata(-better, axis=0, method="min")
    low, high = np.percentile(ranks, [2.5, 97.5], axis=1, method="nearest")
    return {key: (int(low[i]), int(high[i])) for i, key in enumerate(backbones)}
