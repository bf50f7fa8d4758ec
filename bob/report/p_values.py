"""P-values of a difference: of signs that are thrown, and of variances that are partly known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_EXACT_SUMS = 200_000
_DRAWN_UP_TO = 1000
_DRAWS = 9999

_SHARING = 1.3
"""How far variances that are known equally well lend each other degrees of freedom. With 1 they do
not. With 2 they do as Welch and Satterthwaite have it, by which more than 5 % of equal backbones
are called different where one's seeds spread far more than the other's."""

_LEAST = -230.0
"""Logarithm of the least p-value told from 0."""


def joint_p(ahead: float, images: float, seeds: Iterable[tuple[int, float]] = ()) -> float:
    """Two-sided p-value of a difference whose variance is partly known and partly estimated.

    At the level ``p`` the square of the bound is the sum of every variance times the square of its
    own quantile: the normal one for images, Student's for seeds. Such a bound keeps its level
    whatever the shares of the variances are, because the distribution of a squared normal value is
    concave (after S. Banerjee, Sankhya 22, 1960). Variances of the same degrees of freedom are one,
    with some more freedom than each if that is above 1; that this keeps the level too is simulated
    (``benchmarks.ranking_power``), not proved.

    Args:
        ahead: The difference.
        images: Its variance over images.
        seeds: Degrees of freedom, at least 1, and the difference's variance, for each group of
            seeds.
    """
    from scipy.optimize import brentq

    beyond = _square_bound(images, seeds)
    square = ahead * ahead
    if square <= 1e-24:
        return 1.0
    if beyond(_LEAST) < square:
        return 0.0
    return math.exp(brentq(lambda log_p: beyond(log_p) - square, _LEAST, 0.0, xtol=1e-12))


def joint_bound(images: float, seeds: Iterable[tuple[int, float]], p: float) -> float:
    """The difference that ``joint_p`` gives this p-value; half the width of its interval.

    Args:
        images: As of ``joint_p``.
        seeds: As of ``joint_p``.
        p: Two-sided, such as 0.05.
    """
    return math.sqrt(_square_bound(images, seeds)(math.log(p)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that may be compared with the level although there are several (S. Holm, 1979)."""
    found = [1.0] * len(p_values)
    least = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        found[index] = least
    return found


def _square_bound(images: float, seeds: Iterable[tuple[int, float]]) -> Callable[[float], float]:
    """Square of the bound at the logarithm of a two-sided level; see ``joint_p``."""
    from scipy.special import ndtri, stdtrit

    alike: dict[int, list[float]] = {}
    for freedom, variance in seeds:
        if variance > 0:
            alike.setdefault(freedom, []).append(variance)
    lucks = []
    for freedom, variances in alike.items():
        total = sum(variances)
        power = _SHARING if freedom > 1 else 1
        lucks.append((freedom / sum((part / total) ** power for part in variances), total))

    def square(log_p: float) -> float:
        tail = math.exp(log_p) / 2
        bound = images * ndtri(tail) ** 2
        return float(bound + sum(total * stdtrit(freedom, tail) ** 2 for freedom, total in lucks))

    return square


def sign_flip(differences: Values) -> float:
    """Two-sided p-value of a sum of differences whose signs were coins' throws; zeros aside.

    Of differences of one size the number of either sign is binomial. Differences of a few sizes are
    a sum of such, and the value is exact. Of many sizes random signs are drawn, and the normal
    distribution stands in for more than a thousand differences.

    Args:
        differences: ``(n,)``, none of them 0.
    """
    from scipy.special import ndtr

    if len(differences) < 2:
        return 1.0
    found = abs(float(differences.sum())) * (1 - 1e-9)
    sizes = np.abs(differences)
    _, where, counts = np.unique(
        np.round(sizes / sizes.max(), 9), return_index=True, return_counts=True
    )
    if math.prod(int(count) + 1 for count in counts) <= _EXACT_SUMS:
        sums, chances = _signed_sums(sizes[where], counts)
        return min(1.0, float(chances[np.abs(sums) >= found].sum()))
    if len(differences) > _DRAWN_UP_TO:
        return float(2 * ndtr(-found / math.sqrt(float(np.square(differences).sum()))))
    # the signs that were found are a draw too
    return (int((np.abs(_drawn_sums(differences)) >= found).sum()) + 1) / (_DRAWS + 1)


def _drawn_sums(differences: Values) -> Values:
    """Sums under ``_DRAWS`` random signs; eight signs are one byte, and their sums in a table."""
    groups = np.zeros((math.ceil(len(differences) / 8), 8))
    groups.ravel()[: len(differences)] = differences
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    signed = groups @ (1.0 - 2.0 * bits.T)  # (groups, 256)
    drawn = np.random.default_rng(0).integers(0, 256, (len(groups), _DRAWS), np.uint8)
    sums = np.zeros(_DRAWS)
    for table, flips in zip(signed, drawn, strict=True):
        sums += table[flips]
    return sums


def _signed_sums(sizes: Values, counts: NDArray[np.int64]) -> tuple[Values, Values]:
    """Sums of so many values of each size under random signs, and the chance of each."""
    from scipy.special import gammaln

    sums, chances = np.zeros(1), np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        plus = np.arange(count + 1)
        ways = gammaln(count + 1) - gammaln(plus + 1) - gammaln(count - plus + 1)
        sums = np.add.outer(sums, size * (2 * plus - count)).ravel()
        chances = np.multiply.outer(chances, np.exp(ways - count * math.log(2))).ravel()
    return sums, chances
