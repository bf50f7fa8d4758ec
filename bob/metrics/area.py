"""How far an area under the ROC curve may lie from the truth.

An area is no share of images: its error depends on how many images show the label, how many do not,
and how the scores of both are spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bob.intervals import wilson

Values = NDArray[np.float64]

FEW = 6
"""Images with the label, or without it, below which their own spread tells too little."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """An area under the ROC curve.

    Attributes:
        value: Chance that an image with the label is scored above one without; a tie is a half.
        inside: The same, half a pair of images away from 0 and 1 at least.
        influence: How much each image moves it, ``(n,)``; 0 where the label is not known. The sum
            of squares is its variance, less ``unseen``.
        unseen: Variance that no image shows, because all pairs are ordered alike.
    """

    value: float
    inside: float
    influence: Values
    unseen: float


def area(scores: Values, truth: Values) -> Area:
    """The area of one label, with the variance of E. R. DeLong et al. (1988).

    That is too small where nearly all pairs are in order, as it is of the few that are not. It is
    no less here than J. A. Hanley and B. J. McNeil (1982) expect of an area of this size, and with
    fewer than ``FEW`` images of either kind than it can be at most (Z. W. Birnbaum and O. M. Klose,
    1957).

    Args:
        scores: ``(n,)``, finite.
        truth: ``(n,)`` of 0, 1 and NaN, at least one of 0 and of 1.
    """
    from scipy.stats import rankdata

    shown, missing = truth == 1, truth == 0
    first, second = scores[shown], scores[missing]
    present, absent = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    above = (ranks[:present] - rankdata(first)) / absent
    below = 1 - (ranks[present:] - rankdata(second)) / present
    value, least = float(above.mean()), 0.5 / (present * absent)
    inside = min(1 - least, max(least, value))
    influence = np.zeros(len(truth))
    influence[shown] = (above - value) / math.sqrt(present * max(present - 1, 1))
    influence[missing] = (below - value) / math.sqrt(absent * max(absent - 1, 1))
    found, expected = float(np.square(influence).sum()), _expected(inside, present, absent)
    if found > 0:
        influence *= math.sqrt(max(1.0, expected / found))
    unseen = 0.0 if found > 0 else expected
    return Area(value=value, inside=inside, influence=influence, unseen=unseen)


def interval(areas: Sequence[Area], *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of areas that were read on the same images.

    It is Wilson's of the number of images of which a share would have this variance.

    Args:
        areas: At least one.
        level: Chance that the interval holds the truth.
    """
    share = fmean(part.inside for part in areas)
    together = np.mean([part.influence for part in areas], axis=0)
    unseen = fmean(math.sqrt(part.unseen) for part in areas) ** 2
    variance = float(np.square(together).sum()) + unseen
    return wilson(share, share * (1 - share) / variance, level=level)


def _expected(value: float, present: int, absent: int) -> float:
    if min(present, absent) < FEW:
        return value * (1 - value) / min(present, absent)
    both_present, both_absent = value / (2 - value), 2 * value**2 / (1 + value)
    return (
        value * (1 - value)
        + (present - 1) * (both_present - value**2)
        + (absent - 1) * (both_absent - value**2)
    ) / (present * absent)
