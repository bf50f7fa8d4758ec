"""A backbone's score in a setting: the mean of its rows, its interval, and outcomes per image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from bob.case import Outcomes
from bob.intervals import wilson
from bob.ledger.score import RunId, Score

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
        image_error: Standard error for the number of test images alone; none where the score is no
            proportion.
        right: Share of seeds that got each test image right, ``(n,)``; none where the score is not
            the mean of it.
        targets: True classes ``(n,)``, by which two backbones' images are known to be the same.
        seeds: How many ran.
        by_seed: Score of each seed.
        unsteady: Variance of one image's outcome between seeds, beyond what all images share; the
            mean over images.
        seeded: Whether another seed may give another score, or nobody knows.
    """

    value: float
    low: float | None = None
    high: float | None = None
    image_error: float | None = None
    better: int = 1
    dataset: str = ""
    right: Values | None = None
    targets: NDArray[np.int64] | None = None
    seeds: int = 1
    by_seed: Mapping[int, float] = field(default_factory=dict)
    unsteady: float = 0.0
    seeded: bool = False


def cell(rows: Sequence[Score], outcomes: Mapping[RunId, Outcomes] | None = None) -> Cell:
    """The score of one backbone in one setting from its seeds.

    The interval joins Wilson's of the number of test images with Student's of the seeds. Only a
    proportion has one: of other scores no number of images says how surely they are known. Where
    that number is not known there is none either.

    Args:
        rows: One a seed, at least one.
        outcomes: Per sample, by ``Score.run``; the rows' own are looked up.
    """
    scores = [row.value for row in rows]
    value, size = fmean(scores), min(row.test_size for row in rows)
    low = high = image_error = None
    if rows[0].unit == "proportion" and size and 0 <= value <= 1:
        low, high = wilson(value, size)
        image_error = (high - low) / (2 * _Z95)
        if len(scores) > 1:
            from scipy.stats import t

            luck = float(t.ppf(0.975, len(scores) - 1)) * stdev(scores) / math.sqrt(len(scores))
            low = max(0.0, value - math.hypot(value - low, luck))
            high = min(1.0, value + math.hypot(high - value, luck))
    samples = [(outcomes or {}).get(row.run) for row in rows]
    right = _right(scores, samples)
    return Cell(
        value=value,
        low=low,
        high=high,
        image_error=image_error,
        better=-1 if rows[0].higher_is_better is False else 1,
        dataset=rows[0].dataset,
        right=None if right is None else right.mean(axis=0),
        targets=samples[0].targets if samples[0] is not None and right is not None else None,
        seeds=len(scores),
        by_seed={row.seed: row.value for row in rows},
        unsteady=0.0 if right is None else unsteady_variance(right),
        seeded=rows[0].seeded is not False,
    )


def _right(scores: Sequence[float], samples: Sequence[Outcomes | None]) -> Values | None:
    """Which images each seed got right, ``(seeds, n)``; none where the scores are not its means."""
    seeds = []
    for score, sample in zip(scores, samples, strict=True):
        if sample is None:
            return None
        right = (sample.targets == sample.predictions).astype(np.float64)
        # a score over shifts or draws is not the mean of these outcomes
        if not len(right) or abs(float(right.mean()) - score) > 1e-5:
            return None
        seeds.append(right)
    same = all(len(right) == len(seeds[0]) for right in seeds)
    return np.stack(seeds) if same else None


def unsteady_variance(right: Values) -> float:
    """Mean square of the interaction of seeds and images, ``(seeds, n)``; 0 of one seed."""
    seeds, images = right.shape
    if seeds < 2 or images < 2:
        return 0.0
    apart = right - right.mean(axis=0) - right.mean(axis=1, keepdims=True) + right.mean()
    freedom: int = (seeds - 1) * (images - 1)
    return float(np.square(apart).sum()) / freedom
