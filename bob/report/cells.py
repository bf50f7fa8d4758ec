"""A backbone's score in a setting: the mean of its rows, its interval, and outcomes per image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from bob.case import ImageList
from bob.intervals import wilson
from bob.ledger.score import RunId, Score
from bob.ledger.units import ROUNDED, Units
from bob.report.drawn import Drawing, Drawn

_Z95 = 1.959963984540054

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The score of one backbone in one setting.

    Attributes:
        value: Mean over seeds.
        low: Lower end of its 95 % interval; none where the score is neither a proportion nor the
            mean of what is known of each image or query.
        high: Upper end.
        better: 1 where a higher score is better, -1 where a lower one is.
        dataset: Whose images it was read on.
        image_error: Standard error for the number of test images or queries alone; none as ``low``.
        units: Of each test image the share of seeds that got it right, or its mean contribution; of
            each query its mean average precision, ``(n,)``; none where the score is not the mean of
            it.
        units_of: Which images or queries those are; see ``bob.ledger.units.Units``.
        lists: The images in lists that other settings may have too; empty where that is not known.
        seeds: How many ran.
        by_seed: Score of each seed.
        unsteady: Variance of one image's or query's outcome between seeds, beyond what all share;
            the mean over them.
        seeded: Whether another seed may give another score, or nobody knows.
        drawn: How the score moves with drawn test images, where it is no mean over them; none where
            that is not known or was not asked for.
    """

    value: float
    low: float | None = None
    high: float | None = None
    image_error: float | None = None
    better: int = 1
    dataset: str = ""
    units: Values | None = None
    units_of: str = ""
    lists: tuple[ImageList, ...] = ()
    seeds: int = 1
    by_seed: Mapping[int, float] = field(default_factory=dict)
    unsteady: float = 0.0
    seeded: bool = False
    drawn: Drawn | None = None


def cell(
    rows: Sequence[Score],
    units: Mapping[RunId, Units] | None = None,
    drawing: Drawing | None = None,
) -> Cell:
    """The score of one backbone in one setting from its seeds.

    The interval joins that of the number of test images or queries with Student's of the seeds.
    The first is Wilson's for a proportion. Another mean over images or queries has the normal one
    from their spread. Of other scores no number of images says how surely they are known, and where
    that number is not known there is none either.

    Args:
        rows: One a seed, at least one.
        units: Outcomes per image or query, by ``Score.run``; the rows' own are looked up.
        drawing: Where scores that are no mean over images are drawn.
    """
    scores = [row.value for row in rows]
    value, size = fmean(scores), min(row.test_size for row in rows)
    low = high = image_error = None
    samples = [(units or {}).get(row.run) for row in rows]
    matrix = _matrix(scores, samples)
    if rows[0].unit == "proportion" and size and 0 <= value <= 1:
        low, high = wilson(value, size)
        image_error = (high - low) / (2 * _Z95)
    elif matrix is not None and matrix.shape[1] > 1:
        image_error = _image_error(matrix.mean(axis=0), _lists(samples))
        low, high = max(0.0, value - _Z95 * image_error), min(1.0, value + _Z95 * image_error)
    if low is not None and high is not None and len(scores) > 1:
        from scipy.special import stdtrit

        luck = float(stdtrit(len(scores) - 1, 0.975)) * stdev(scores) / math.sqrt(len(scores))
        low = max(0.0, value - math.hypot(value - low, luck))
        high = min(1.0, value + math.hypot(high - value, luck))
    return Cell(
        value=value,
        low=low,
        high=high,
        image_error=image_error,
        better=-1 if rows[0].higher_is_better is False else 1,
        dataset=rows[0].dataset,
        units=None if matrix is None else matrix.mean(axis=0),
        units_of=samples[0].of if samples[0] is not None and matrix is not None else "",
        lists=() if matrix is None else _lists(samples),
        seeds=len(scores),
        by_seed={row.seed: row.value for row in rows},
        unsteady=0.0 if matrix is None else unsteady_variance(matrix),
        seeded=rows[0].seeded is not False,
        drawn=drawing.of(rows) if drawing and matrix is None else None,
    )


def _matrix(scores: Sequence[float], samples: Sequence[Units | None]) -> Values | None:
    """Outcomes of each seed, ``(seeds, n)``; none where the scores are not their means."""
    seeds: list[Units] = []
    for score, sample in zip(scores, samples, strict=True):
        # a score over shifts may come with the outcomes on the source alone
        if sample is None or abs(float(sample.values.mean()) - score) > ROUNDED:
            return None
        seeds.append(sample)
    same = all(
        sample.of == seeds[0].of and len(sample.values) == len(seeds[0].values) for sample in seeds
    )
    return np.stack([sample.values for sample in seeds]) if same else None


def _lists(samples: Sequence[Units | None]) -> tuple[ImageList, ...]:
    return samples[0].lists if samples[0] is not None else ()


def _image_error(values: Values, lists: Sequence[ImageList]) -> float:
    """Standard error of the mean of values, each list of images with a spread of its own."""
    sizes = [images.count for images in lists]
    if min(sizes, default=0) < 2:
        sizes = [len(values)]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return math.sqrt(sum(len(part) * float(part.var(ddof=1)) for part in parts)) / len(values)


def unsteady_variance(outcomes: Values) -> float:
    """Mean square of the interaction of seeds and units, ``(seeds, n)``; 0 of one seed."""
    seeds, images = outcomes.shape
    if seeds < 2 or images < 2:
        return 0.0
    apart = outcomes - outcomes.mean(axis=0)
    apart -= outcomes.mean(axis=1, keepdims=True) - outcomes.mean()
    freedom: int = (seeds - 1) * (images - 1)
    return float(np.square(apart).sum()) / freedom
