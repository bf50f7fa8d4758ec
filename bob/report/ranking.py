"""The backbones of a session in order: mean z-score, and how much of the order is noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bob.case import Result
from bob.intervals import wilson
from bob.protocols import PROTOCOLS

if TYPE_CHECKING:
    from bob.evaluation import Evaluation

ALPHA = 0.05
"""Neighbours whose difference has a higher p-value are tied."""

_EXACT_UP_TO = 1000
_RESAMPLES = 9999
_Z95 = 1.959963984540054

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The score of one backbone in one setting.

    Attributes:
        value: Mean over seeds.
        low: Lower end of its 95 % interval; none where the score is no proportion.
        high: Upper end.
        better: 1 where a higher score is better, -1 where a lower one is.
        dataset: Whose images it was read on.
        right: Share of seeds that got each test image right, ``(n,)``; none where the score is not
            the mean of it.
        targets: True classes ``(n,)``, by which two backbones' images are known to be the same.
        seeds: How many ran.
        seeded: Whether another seed may give another score.
    """

    value: float
    low: float | None = None
    high: float | None = None
    better: int = 1
    dataset: str = ""
    right: Values | None = None
    targets: NDArray[np.int64] | None = None
    seeds: int = 1
    seeded: bool = False

    @property
    def error(self) -> float | None:
        """Standard error, from the interval."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / (2 * _Z95)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One backbone's place.

    Attributes:
        rank: From 1; tied backbones share the best of their ranks.
        tied: Whether the difference to a neighbour is within noise.
        mean_z: Mean of ``z`` over its settings.
        z: By setting; those with two backbones or more.
        wins: Settings in which no backbone is better.
        p_next: Chance of so large a difference to the next backbone if there were none; none for
            the last and where nothing can be tested.
    """

    backbone: str
    rank: int
    tied: bool
    mean_z: float
    z: Mapping[str, float]
    wins: int
    p_next: float | None


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


def rank(evaluations: Sequence[Evaluation]) -> Ranking | None:
    """Rank the backbones of a session; none where no setting has scores of two.

    The protocol is the paper's: in each setting the z-score across backbones, averaged over the
    settings that a backbone has.
    """
    cells: dict[str, dict[str, Cell]] = {}
    for evaluation in evaluations:
        results = [result for result in evaluation.results if _finite(result)]
        if results:
            case = evaluation.case
            name = f"{case.setting} {case.metric}"
            cells.setdefault(name, {})[case.backbone.key] = cell(results)
    keys = {evaluation.case.backbone.key for evaluation in evaluations}
    return rank_cells({name: cells[name] for name in sorted(cells)}, sorted(keys))


def rank_cells(cells: Mapping[str, Mapping[str, Cell]], backbones: Sequence[str]) -> Ranking | None:
    """Rank by scores; see ``rank``."""
    spreads = {
        name: _spread([entry.value for entry in row.values()]) for name, row in cells.items()
    }
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
    chances = [_chance(cells, spreads, first, second) for first, second in pairwise(order)]
    same = [chance is not None and chance >= ALPHA for chance in chances]
    standings: list[Standing] = []
    for place, key in enumerate(order):
        with_last = place > 0 and same[place - 1]
        standings.append(
            Standing(
                backbone=key,
                rank=standings[-1].rank if with_last else place + 1,
                tied=with_last or (place < len(same) and same[place]),
                mean_z=fmean(z[key].values()),
                z=z[key],
                wins=wins[key],
                p_next=chances[place] if place < len(chances) else None,
            )
        )
    return Ranking(
        standings=tuple(standings),
        cells=cells,
        unranked=tuple(key for key in backbones if key not in z),
    )


def _spread(values: Sequence[float]) -> float:
    found = float(np.std(values))
    return found if found > 1e-9 else 0.0  # equal scores may differ by rounding


def _finite(result: Result) -> bool:
    return result.score is not None and math.isfinite(result.score)


def cell(results: Sequence[Result]) -> Cell:
    """The score of one backbone in one setting from its seeds.

    The interval joins Wilson's of the number of test images with Student's of the seeds. Only a
    proportion has one: of other scores no number of images says how surely they are known.
    """
    case = results[0].case
    scores = [float(result.metrics[case.metric]) for result in results]
    value, judged = fmean(scores), PROTOCOLS[case.task].judged[0]
    size = results[0].test_size or case.dataset.test_size
    low = high = None
    if judged.unit == "proportion" and size and 0 <= value <= 1:
        low, high = wilson(value, size)
        if len(scores) > 1:
            from scipy.stats import t

            luck = float(t.ppf(0.975, len(scores) - 1)) * stdev(scores) / math.sqrt(len(scores))
            low = max(0.0, value - math.hypot(value - low, luck))
            high = min(1.0, value + math.hypot(high - value, luck))
    right = _right(results)
    outcomes = results[0].outcomes
    return Cell(
        value=value,
        low=low,
        high=high,
        better=1 if judged.higher_is_better else -1,
        dataset=case.dataset.key,
        right=right,
        targets=outcomes.targets if outcomes is not None and right is not None else None,
        seeds=len(scores),
        seeded=case.seeded,
    )


def _right(results: Sequence[Result]) -> Values | None:
    rows = []
    for result in results:
        if result.outcomes is None:
            return None
        right = (result.outcomes.targets == result.outcomes.predictions).astype(np.float64)
        # a score over shifts or draws is not the mean of these outcomes
        if not len(right) or abs(float(right.mean()) - float(result.score or 0)) > 1e-5:
            return None
        rows.append(right)
    same = all(len(row) == len(rows[0]) for row in rows)
    return np.mean(rows, axis=0) if same else None


def _chance(
    cells: Mapping[str, Mapping[str, Cell]], spreads: Mapping[str, float], first: str, second: str
) -> float | None:
    """P-value of the difference of two backbones' z-scores over the settings both have.

    Without a difference, which backbone got an image right is a coin's throw: outcomes of the two
    change places image by image, in all tasks on that image together. With one setting this is
    McNemar's exact test. Settings without outcomes enter with the errors of both scores, as if
    all errors had the same sign.
    """
    paired: dict[str, Values] = {}
    apart, error = 0.0, 0.0
    tested = False
    for name, row in cells.items():
        if first not in row or second not in row or not spreads[name]:
            tested = tested or (first in row and second in row)
            continue
        ahead, behind = row[first], row[second]
        same = (
            ahead.right is not None
            and behind.right is not None
            and ahead.targets is not None
            and behind.targets is not None
            and np.array_equal(ahead.targets, behind.targets)
        )
        if same and ahead.right is not None and behind.right is not None:
            parts = ahead.better * (ahead.right - behind.right) / (len(ahead.right) * spreads[name])
            known = paired.get(ahead.dataset)
            alike = known is not None and len(known) == len(parts)
            key = ahead.dataset if known is None or alike else name
            paired[key] = known + parts if alike and known is not None else parts
        elif ahead.error is not None and behind.error is not None:
            apart += ahead.better * (ahead.value - behind.value) / spreads[name]
            error += math.hypot(ahead.error, behind.error) / spreads[name]
        else:
            continue
        tested = True
    if not tested:
        return None
    parts = np.concatenate([*paired.values(), np.zeros(0)])
    parts = parts[np.abs(parts) > 1e-12]
    if not error:
        return sign_flip(parts)
    from scipy.stats import norm

    error += math.sqrt(float(np.square(parts).sum()))
    return float(2 * norm.sf(abs(float(parts.sum()) + apart) / error))


def sign_flip(differences: Values) -> float:
    """Two-sided p-value of a sum of differences whose signs were coins' throws; zeros aside.

    Every combination of signs is counted where they are few, random ones where they are more, and
    the normal distribution stands in for a thousand and over.

    Args:
        differences: ``(n,)``, none of them 0.
    """
    from scipy.stats import norm, permutation_test

    if len(differences) < 2:
        return 1.0
    if len(differences) > _EXACT_UP_TO:
        z = abs(float(differences.sum())) / math.sqrt(float(np.square(differences).sum()))
        return float(2 * norm.sf(z))
    found = permutation_test(
        (differences,),
        lambda values, axis: np.round(np.sum(values, axis=axis), 12),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=1000,
        random_state=0,
    )
    return min(1.0, float(found.pvalue))
