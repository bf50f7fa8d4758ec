"""How likely a difference of two backbones is if there were none.

Two kinds of luck are in a difference: which images the test split holds, and which seeds were
trained. ``chance`` weighs both. See "The ranking" in docs/own-data.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bob.report.cells import Cell, Values

_EXACT_SUMS = 200_000
_DRAWN_UP_TO = 1000
_DRAWS = 9999
_FEW = 100
"""Where seeds have a part too, signs are thrown for no more differences than these."""

_SHARING = 1.3
"""How far variances that are known equally well lend each other degrees of freedom. With 1 they do
not. With 2 they do as Welch and Satterthwaite have it, by which more than 5 % of equal backbones
are called different where one's seeds spread far more than the other's."""

_LEAST = -230.0
"""Logarithm of the least p-value told from 0."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two neighbours, over the settings both have.

    Attributes:
        p: Chance of so large a difference if there were none; none where nothing can be told.
        ahead: Sum of the first's z-scores less the second's, of the settings that ``p`` is of.
        one_seed: Whether nothing can be told because a seeded score was trained on one seed.
    """

    p: float | None
    ahead: float = 0.0
    one_seed: bool = False


@dataclass
class _Evidence:
    """What the settings of two backbones say, each divided by the spread of its scores.

    Attributes:
        paired: Difference by image, ``(n,)``, of the settings on the same images together.
        apart: Sum of the differences of scores without outcomes.
        error: Sum of their errors for the number of images, as if all had the same sign.
        seeds: Total by seed, by backbone and the seeds it ran.
        unsteady: Part of the variance of ``paired`` that is the seeds', and is in ``seeds`` too.
    """

    paired: dict[str, Values] = field(default_factory=dict)
    apart: float = 0.0
    error: float = 0.0
    seeds: dict[tuple[str, tuple[int, ...]], Values] = field(default_factory=dict)
    unsteady: float = 0.0

    def add(self, name: str, ahead: Cell, behind: Cell, spread: float) -> bool:
        """Take a setting in; false where its scores carry no error."""
        if _same_images(ahead, behind) and ahead.right is not None and behind.right is not None:
            parts = ahead.better * (ahead.right - behind.right) / (len(ahead.right) * spread)
            known = self.paired.get(ahead.dataset)
            alike = known is not None and len(known) == len(parts)
            key = ahead.dataset if known is None or alike else name
            self.paired[key] = known + parts if alike and known is not None else parts
            for entry in (ahead, behind):
                if entry.seeded:
                    self.unsteady += entry.unsteady / (len(parts) * entry.seeds * spread**2)
        elif ahead.image_error is not None and behind.image_error is not None:
            self.apart += ahead.better * (ahead.value - behind.value) / spread
            self.error += math.hypot(ahead.image_error, behind.image_error) / spread
        else:
            return False
        for side, entry in (("ahead", ahead), ("behind", behind)):
            if entry.seeded and len(entry.by_seed) > 1:
                luck = side, tuple(entry.by_seed)
                values = np.array(list(entry.by_seed.values())) / spread
                self.seeds[luck] = self.seeds.get(luck, np.zeros(len(values))) + values
        return True

    def difference(self) -> Difference:
        """What they say together."""
        parts = np.concatenate([*self.paired.values(), np.zeros(0)])
        parts = parts[np.abs(parts) > 1e-12]
        ahead = float(parts.sum()) + self.apart
        squares = float(np.square(parts).sum())
        images = (self.error + math.sqrt(squares)) ** 2
        if not self.seeds:
            p = joint_p(ahead, images) if self.error else sign_flip(parts)
            return Difference(p=p, ahead=ahead)
        p = joint_p(ahead, images, self._lucks(images))
        if not self.error and len(parts) <= _FEW:
            p = max(p, sign_flip(parts))
        return Difference(p=p, ahead=ahead)

    def _lucks(self, images: float) -> list[tuple[int, float]]:
        """Degrees of freedom and variance of each group of seeds.

        Seeds differ by what they do to single images too, and that part is in the variance over
        images already. It is taken off, the less of it the more of that variance it is: with few
        seeds it is not known how much of it their own variance holds.
        """
        lucks = [
            (len(totals) - 1, float(totals.var(ddof=1)) / len(totals))
            for totals in self.seeds.values()
        ]
        total = sum(variance for _, variance in lucks)
        if not total or not images:
            return lucks
        twice = self.unsteady * (1 - min(1.0, self.unsteady / images)) ** 2
        left = max(0.0, 1 - twice / total)
        return [(freedom, variance * left) for freedom, variance in lucks]


def difference(
    cells: Mapping[str, Mapping[str, Cell]], spreads: Mapping[str, float], first: str, second: str
) -> Difference:
    """The difference of two backbones' z-scores over the settings both have.

    Where no seed matters, which backbone got an image right is a coin's throw if there is no
    difference: outcomes of the two change places image by image, in all tasks on that image
    together. With one setting this is McNemar's exact test. Settings without outcomes enter with
    the errors of both scores, as if all errors had the same sign.

    Where seeds matter, their variance is added; see ``joint_p``. Seeds of one number are taken
    together over settings, since they may share a backbone's random weights. Of one seed nobody
    can tell.

    Args:
        cells: By setting and backbone.
        spreads: What differences are divided by, by setting; 0 where all scores are equal.
        first: The backbone that is ranked better.
        second: The next one.
    """
    evidence, tested = _Evidence(), False
    for name, row in cells.items():
        if first not in row or second not in row:
            continue
        ahead, behind = row[first], row[second]
        if not evidence.add(name, ahead, behind, spreads[name] or math.inf) and spreads[name]:
            continue
        if any(entry.seeded and entry.seeds == 1 for entry in (ahead, behind)):
            return Difference(p=None, one_seed=True)
        tested = True
    return evidence.difference() if tested else Difference(p=None)


def _same_images(ahead: Cell, behind: Cell) -> bool:
    return (
        ahead.targets is not None
        and behind.targets is not None
        and np.array_equal(ahead.targets, behind.targets)
    )


def joint_p(ahead: float, images: float, seeds: Iterable[tuple[int, float]] = ()) -> float:
    """Two-sided p-value of a difference whose variance is partly known and partly estimated.

    At the level ``p`` the square of the bound is the sum of every variance times the square of its
    own quantile: the normal one for images, Student's for seeds. Such a bound keeps its level
    whatever the shares of the variances are, because the distribution of a squared normal value is
    concave (after S. Banerjee, Sankhya 22, 1960). Variances of the same degrees of freedom are one,
    with some more freedom than each if that is above 1.

    Args:
        ahead: The difference.
        images: Its variance over images.
        seeds: Degrees of freedom, at least 1, and the difference's variance, for each group of
            seeds.
    """
    from scipy.optimize import brentq
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

    def beyond(log_p: float) -> float:
        tail = math.exp(log_p) / 2
        bound = images * ndtri(tail) ** 2
        return float(bound + sum(total * stdtrit(freedom, tail) ** 2 for freedom, total in lucks))

    square = ahead * ahead
    if square <= 1e-24:
        return 1.0
    if beyond(_LEAST) < square:
        return 0.0
    return math.exp(brentq(lambda log_p: beyond(log_p) - square, _LEAST, 0.0, xtol=1e-12))


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
    flips = np.random.default_rng(0).integers(0, 2, (_DRAWS, len(differences)), np.int8)
    drawn = np.abs((1.0 - 2.0 * flips) @ differences)
    # the signs that were found are a draw too
    return (int((drawn >= found).sum()) + 1) / (_DRAWS + 1)


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
