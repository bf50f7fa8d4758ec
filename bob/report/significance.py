"""How likely a difference of two backbones is if there were none.

Two kinds of luck are in a difference: which images the test split holds, and which seeds were
trained. See "The ranking" in docs/own-data.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bob.case import ImageList
from bob.report.cells import Cell, Values
from bob.report.p_values import joint_p, sign_flip

_FEW = 100
"""Where seeds have a part too, signs are thrown for no more differences than these."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two neighbours, over the settings both have.

    Attributes:
        p: Chance of so large a difference if there were none; none where nothing can be told.
        ahead: Sum of the first's z-scores less the second's, of the settings that ``p`` is of.
        images: Variance of ``ahead`` for the test images or queries.
        lucks: Degrees of freedom and variance of ``ahead`` for each group of seeds.
        one_seed: Whether nothing can be told because a seeded score was trained on one seed.
    """

    p: float | None
    ahead: float = 0.0
    images: float = 0.0
    lucks: tuple[tuple[int, float], ...] = ()
    one_seed: bool = False


@dataclass
class _Evidence:
    """What the settings of two backbones say, each divided by the spread of its scores.

    Attributes:
        paired: Difference by image or query, ``(n,)``, of the settings on the same ones together,
            by list.
        drawn: Difference by draw of the images, ``(draws,)``, by list, of settings on the same ones
            together; of scores that are no mean over images.
        images: What an image is to those, by list; see ``Drawn``. Drawn images spread a little less
            than new ones do, and images that all came out the same do not spread at all.
        apart: Sum of the differences of scores without outcomes by image.
        errors: Their errors for the number of images by dataset, added up within one as if all
            had the same sign.
        seeds: Total by seed, by backbone and the seeds it ran.
        unsteady: Part of the variance of ``paired`` and ``drawn`` that is the seeds', and is in
            ``seeds`` too.
    """

    paired: dict[str, Values] = field(default_factory=dict)
    drawn: dict[str, Values] = field(default_factory=dict)
    images: dict[str, float] = field(default_factory=dict)
    apart: float = 0.0
    errors: dict[str, float] = field(default_factory=dict)
    seeds: dict[tuple[str, tuple[int, ...]], Values] = field(default_factory=dict)
    unsteady: float = 0.0

    def add(self, ahead: Cell, behind: Cell, spread: float) -> bool:
        """Take a setting in; false where its scores carry no error."""
        if same_units(ahead, behind) and ahead.units is not None and behind.units is not None:
            parts = ahead.better * (ahead.units - behind.units) / (len(ahead.units) * spread)
            lists = lists_of(ahead, behind)
            places = np.cumsum([images.count for images in lists])[:-1]
            for images, part in zip(lists, np.split(parts, places), strict=True):
                self._place(images, part)
            for entry in (ahead, behind):
                if entry.seeded:
                    self.unsteady += entry.unsteady / (len(parts) * entry.seeds * spread**2)
        elif same_draws(ahead, behind) and ahead.drawn is not None and behind.drawn is not None:
            self.apart += ahead.better * (ahead.value - behind.value) / spread
            for name, moved in ahead.drawn.moved.items():
                part = ahead.better * (moved - behind.drawn.moved[name]) / spread
                self.drawn[name] = self.drawn.get(name, np.zeros(len(part))) + part
                self.images[name] = self.images.get(name, 0.0) + ahead.drawn.image[name] / spread
            for entry in (ahead, behind):
                if entry.seeded and entry.drawn is not None:
                    self.unsteady += entry.drawn.unsteady / (entry.seeds * spread**2)
        elif ahead.image_error is not None and behind.image_error is not None:
            self.apart += ahead.better * (ahead.value - behind.value) / spread
            error = math.hypot(ahead.image_error, behind.image_error) / spread
            self.errors[ahead.dataset] = self.errors.get(ahead.dataset, 0.0) + error
        else:
            return False
        for side, entry in (("ahead", ahead), ("behind", behind)):
            if entry.seeded and len(entry.by_seed) > 1:
                luck = side, tuple(entry.by_seed)
                values = np.array(list(entry.by_seed.values())) / spread
                self.seeds[luck] = self.seeds.get(luck, np.zeros(len(values))) + values
        return True

    def _place(self, images: ImageList, part: Values) -> None:
        """Add differences of some images, ``(images.count,)``, to those of the same in others."""
        held = self.paired.get(images.digest, np.zeros(0))
        whole = np.zeros(max(len(held), images.step * (images.count - 1) + 1))
        whole[: len(held)] = held
        whole[: images.step * images.count : images.step] += part
        self.paired[images.digest] = whole

    def difference(self) -> Difference:
        """What they say together."""
        parts = np.concatenate([*self.paired.values(), np.zeros(0)])
        parts = parts[np.abs(parts) > 1e-12]
        ahead = float(parts.sum()) + self.apart
        squares = float(np.square(parts).sum())
        images = (math.hypot(*self.errors.values()) + math.sqrt(squares)) ** 2
        images += sum(
            float(values.var(ddof=1)) + self.images[name] ** 2
            for name, values in self.drawn.items()
        )
        signs_alone = not self.errors and not self.drawn
        if not self.seeds:
            p = sign_flip(parts) if signs_alone else joint_p(ahead, images)
            return Difference(p=p, ahead=ahead, images=images)
        lucks = self._lucks(images)
        p = joint_p(ahead, images, lucks)
        if signs_alone and len(parts) <= _FEW:
            p = max(p, sign_flip(parts))
        return Difference(p=p, ahead=ahead, images=images, lucks=tuple(lucks))

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
    together. With one setting this is McNemar's exact test. An image that is scored under several
    shifts or after several draws is thrown once, with all it contributes. Scores that are no mean
    over images enter with the spread of their difference over drawn images, and others without
    outcomes with the errors of both scores, as if all errors on one dataset had the same sign.

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
        if not evidence.add(ahead, behind, spreads[name] or math.inf) and spreads[name]:
            continue
        if any(entry.seeded and entry.seeds == 1 for entry in (ahead, behind)):
            return Difference(p=None, one_seed=True)
        tested = True
    return evidence.difference() if tested else Difference(p=None)


def same_units(ahead: Cell, behind: Cell) -> bool:
    """Whether two scores are means over the same images or queries, known one by one."""
    return (
        ahead.units is not None
        and behind.units is not None
        and ahead.units_of == behind.units_of
        and len(ahead.units) == len(behind.units)
        and (not ahead.lists or not behind.lists or ahead.lists == behind.lists)
    )


def same_draws(ahead: Cell, behind: Cell) -> bool:
    """Whether two scores that are no mean over images were drawn with the same ones."""
    return (
        ahead.drawn is not None
        and behind.drawn is not None
        and ahead.drawn.lists == behind.drawn.lists
    )


def lists_of(ahead: Cell, behind: Cell) -> tuple[ImageList, ...]:
    """The images or queries of two scores with ``same_units``, in lists that settings share."""
    assert ahead.units is not None
    whole = ImageList(count=len(ahead.units), digest=ahead.units_of)
    return ahead.lists or behind.lists or (whole,)
