"""Two sides against each other: better, worse, equivalent, or not decided; from cells alone.

A side is a backbone, or what was measured of the same backbones at another time. Each setting that
both have is one contrast; all together are the overall one. See docs/compare.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean

import numpy as np

from bob.report.cells import Cell
from bob.report.p_values import holm, joint_bound, joint_p
from bob.report.significance import Difference, difference, lists_of, same_draws, same_units

ALPHA = 0.05
_MOST_SEEDS = 50
_ROUNDED = 1e-6
"""References hold six digits."""


class Answer(StrEnum):
    """What is known of the second side next to the first."""

    WORSE = "worse"
    BETTER = "better"
    EQUIVALENT = "equivalent"
    """The difference is smaller than what matters, whichever way it is."""
    IDENTICAL = "identical"
    """Every seed, and every image or query of it, came out the same."""
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One setting of both sides, or all of them.

    Attributes:
        subject: The backbone, where both sides are of the same ones; else empty.
        setting: ``task/dataset metric``.
        before: Score of the first side.
        after: Score of the second.
        effect: How much better the second is, in the score's own unit; below 0 it is worse.
        low: Lower end of the effect's interval at the level; none where nothing tells its error.
        high: Upper end.
        p: Chance of so large a difference if there were none.
        p_equivalent: Chance of so small a difference if it were as large as ``delta`` or larger:
            two one-sided tests.
        adjusted: ``p`` by Holm's rule over all settings.
        adjusted_equivalent: ``p_equivalent`` by the same rule.
        delta: The least difference that matters; 0 where nobody said.
        answer: What follows.
        why: What keeps it from being decided; empty where it is.
        seeds_to_decide: Seeds of each side that would decide if the difference and its spread
            stayed; none where it is decided or no number up to 50 would.
    """

    subject: str
    setting: str
    before: float
    after: float
    effect: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_equivalent: float | None = None
    adjusted: float | None = None
    adjusted_equivalent: float | None = None
    delta: float = 0.0
    answer: Answer = Answer.UNDECIDED
    why: str = ""
    seeds_to_decide: int | None = None

    @property
    def name(self) -> str:
        """Subject and setting."""
        return f"{self.subject} {self.setting}".strip()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The cells of one setting.

    Attributes:
        subject: As of ``Contrast``.
        setting: As of ``Contrast``.
        before: The first side's.
        after: The second side's.
        delta: As of ``Contrast``.
    """

    subject: str
    setting: str
    before: Cell
    after: Cell
    delta: float


@dataclass(frozen=True, kw_only=True)
class ComparedSides:
    """What two sides come to.

    Attributes:
        contrasts: One for each setting.
        overall: The mean over the settings whose error is known; none where there is none.
        alpha: The level.
    """

    contrasts: tuple[Contrast, ...]
    overall: Contrast | None
    alpha: float

    def count(self, answer: Answer) -> int:
        """How many settings have an answer."""
        return sum(contrast.answer is answer for contrast in self.contrasts)


def compare(pairs: Sequence[Pair], *, alpha: float = ALPHA) -> ComparedSides:
    """Compare two sides setting by setting and overall.

    Args:
        pairs: Settings that both have, measured under the same protocol on the same data.
        alpha: The level: of "better" or "worse" somewhere if nothing differs, and of "equivalent"
            somewhere if everything differs by ``delta``.
    """
    found = [_contrast(pair, alpha) for pair in pairs]
    contrasts = _answered(found, alpha)
    tested = [pair for pair, contrast in zip(pairs, found, strict=True) if contrast.p is not None]
    return ComparedSides(
        contrasts=tuple(contrasts), overall=_overall(tested, contrasts, alpha), alpha=alpha
    )


def _contrast(pair: Pair, alpha: float) -> Contrast:
    before, after = pair.before, pair.after
    contrast = Contrast(
        subject=pair.subject,
        setting=pair.setting,
        before=before.value,
        after=after.value,
        effect=after.better * (after.value - before.value),
        delta=pair.delta,
    )
    shared = _identical(pair)
    if shared is not None:
        return replace(
            contrast, before=shared, after=shared, effect=0.0, low=0.0, high=0.0, p=1.0,
            p_equivalent=0.0 if pair.delta else None, answer=Answer.IDENTICAL,
        )  # fmt: skip
    step = _step(before, after)
    if step.one_seed:
        return replace(contrast, why="trained on one seed: run both with --seeds 3 or more")
    if step.p is None:
        return replace(contrast, why="no error is known of this score, by image, query or seed")
    return _tested(contrast, step, _least_variance([pair]), alpha)


def _tested(contrast: Contrast, step: Difference, least: float, alpha: float) -> Contrast:
    """A contrast with its interval and p-values.

    Args:
        contrast: Its effect and ``delta``.
        step: Evidence of it.
        least: What is added to the variance over images, so that the same outcome on every image
            of a few does not pass for certainty.
        alpha: Of the interval.
    """
    assert step.p is not None
    images = step.images + least
    half = joint_bound(images, step.lucks, alpha)
    p_equivalent = None
    if contrast.delta:
        sides = (contrast.delta + step.ahead, contrast.delta - step.ahead)
        p_equivalent = max(_one_sided(side, images, step.lucks) for side in sides)
    return replace(
        contrast,
        low=contrast.effect - half,
        high=contrast.effect + half,
        p=step.p,
        p_equivalent=p_equivalent,
        seeds_to_decide=_seeds_to_decide(contrast, images, step.lucks, alpha),
    )


def _one_sided(ahead: float, images: float, lucks: Sequence[tuple[int, float]]) -> float:
    p = joint_p(ahead, images, lucks)
    return p / 2 if ahead > 0 else 1 - p / 2


def _step(before: Cell, after: Cell) -> Difference:
    """Evidence of one setting; of scores without an error by image the seeds alone."""
    step = difference({"": {"after": after, "before": before}}, {"": 1.0}, "after", "before")
    bare = after.image_error is None or before.image_error is None
    if step.p is not None or step.one_seed or not bare or same_units(after, before):
        return step
    sides = [side for side in (before, after) if side.seeded]
    if not sides:
        return step
    if any(side.seeds < 2 for side in sides):
        return Difference(p=None, one_seed=True)
    lucks = tuple(
        (side.seeds - 1, float(np.var([*side.by_seed.values()], ddof=1)) / side.seeds)
        for side in sides
    )
    ahead = after.better * (after.value - before.value)
    return Difference(p=joint_p(ahead, 0.0, lucks), ahead=ahead, lucks=lucks)


def _identical(pair: Pair) -> float | None:
    """The score, if both sides came to the same; else none.

    Each seed has to have the same score, and where they are known each image or query the same
    outcome. Of one backbone that is held against itself, one side may have run more seeds: then
    those count that both ran, by their scores alone. Where nothing is random the number of the
    seed says nothing.
    """
    before, after = pair.before, pair.after
    if before.seeded or after.seeded:
        shared = before.by_seed.keys() & after.by_seed.keys()
        same_seeds = before.by_seed.keys() == after.by_seed.keys()
        fewer = min(len(before.by_seed), len(after.by_seed))
        if not same_seeds and (not pair.subject or len(shared) < fewer):
            return None
        values = [(before.by_seed[seed], after.by_seed[seed]) for seed in sorted(shared)]
    else:
        same_seeds = True
        values = [(before.value, after.value)]
    if not values or not all(abs(first - second) <= _ROUNDED for first, second in values):
        return None
    known = before.units is not None and after.units is not None and same_units(before, after)
    if same_seeds and known and not np.array_equal(before.units, after.units):  # type: ignore[arg-type]
        return None
    if same_seeds and same_draws(before, after) and not _moved_alike(before, after):
        return None
    return fmean(second for _, second in values)


def _moved_alike(before: Cell, after: Cell) -> bool:
    """Whether every draw of the images moved two scores with ``same_draws`` to the same."""
    assert before.drawn is not None
    assert after.drawn is not None
    return all(
        np.allclose(values, after.drawn.moved[images], rtol=0, atol=_ROUNDED)
        for images, values in before.drawn.moved.items()
    )


def _least_variance(pairs: Sequence[Pair]) -> float:
    """Half an image that only one side got right, for either side (Agresti and Min, 2005)."""
    sizes: dict[str, float] = {}
    for pair in pairs:
        if pair.after.units is not None and same_units(pair.before, pair.after):
            for images in lists_of(pair.after, pair.before):
                share = images.share / (images.count * len(pairs))
                sizes[images.digest] = sizes.get(images.digest, 0.0) + share
    return sum(size**2 for size in sizes.values())


def _seeds_to_decide(
    contrast: Contrast, images: float, lucks: Sequence[tuple[int, float]], alpha: float
) -> int | None:
    apart = abs(contrast.effect)
    if not lucks:
        return None
    for seeds in range(max(freedom + 1 for freedom, _ in lucks) + 1, _MOST_SEEDS + 1):
        more = [(seeds - 1, variance * (freedom + 1) / seeds) for freedom, variance in lucks]
        if joint_bound(images, more, alpha) < apart:
            return seeds
        if contrast.delta and joint_bound(images, more, 2 * alpha) < contrast.delta - apart:
            return seeds
    return None


def _answered(found: Sequence[Contrast], alpha: float) -> list[Contrast]:
    """Contrasts with what follows from them, by Holm's rule over all."""
    adjusted = _adjusted([contrast.p for contrast in found])
    equivalent = _adjusted([contrast.p_equivalent for contrast in found])
    return [
        _with_answer(replace(contrast, adjusted=p, adjusted_equivalent=same), alpha)
        for contrast, p, same in zip(found, adjusted, equivalent, strict=True)
    ]


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    known = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]


def _with_answer(contrast: Contrast, alpha: float) -> Contrast:
    if contrast.answer is Answer.IDENTICAL:
        return contrast
    answer, why = Answer.UNDECIDED, contrast.why
    if contrast.adjusted_equivalent is not None and contrast.adjusted_equivalent < alpha:
        answer = Answer.EQUIVALENT
    elif contrast.adjusted is not None and contrast.adjusted < alpha:
        answer = Answer.BETTER if contrast.effect > 0 else Answer.WORSE
    elif not why:
        why = _what_would_decide(contrast)
    decided = answer is not Answer.UNDECIDED
    return replace(
        contrast,
        answer=answer,
        why="" if decided else why,
        seeds_to_decide=None if decided else contrast.seeds_to_decide,
    )


def _what_would_decide(contrast: Contrast) -> str:
    if contrast.seeds_to_decide is not None:
        return f"about {contrast.seeds_to_decide} seeds of each would tell, if all stays as it is"
    matters = "" if contrast.delta else "; --delta says what difference matters"
    return f"more seeds would not tell: its images or queries are too few{matters}"


def _overall(pairs: Sequence[Pair], contrasts: Sequence[Contrast], alpha: float) -> Contrast | None:
    """The mean of the effects, with the evidence of all settings on the same images together.

    Args:
        pairs: Settings whose error is known.
        contrasts: Of all settings.
        alpha: The level.
    """
    if not pairs:
        return None
    tested = [contrast for contrast in contrasts if contrast.p is not None]
    contrast = Contrast(
        subject="",
        setting=f"mean of {len(pairs)} settings",
        before=fmean(entry.before for entry in tested),
        after=fmean(entry.after for entry in tested),
        effect=fmean(entry.effect for entry in tested),
        delta=fmean(pair.delta for pair in pairs) if all(pair.delta for pair in pairs) else 0.0,
    )
    # what is identical has no error, whatever else its sides ran
    moved = [
        pair
        for pair, entry in zip(pairs, tested, strict=True)
        if entry.answer is not Answer.IDENTICAL
    ]
    if not moved:
        return replace(contrast, low=0.0, high=0.0, p=1.0, answer=Answer.IDENTICAL)
    cells: Mapping[str, Mapping[str, Cell]] = {
        str(number): {"after": pair.after, "before": pair.before}
        for number, pair in enumerate(moved)
    }
    step = _joined(cells, len(pairs))
    if step.p is None:
        return replace(contrast, why="trained on one seed: run both with --seeds 3 or more")
    least = _least_variance(moved) * (len(moved) / len(pairs)) ** 2
    whole = _tested(contrast, step, least, alpha)
    return _with_answer(
        replace(whole, adjusted=whole.p, adjusted_equivalent=whole.p_equivalent), alpha
    )


def _joined(cells: Mapping[str, Mapping[str, Cell]], count: int) -> Difference:
    """Evidence of all settings, each a share of the mean; seeds alone where images tell nothing."""
    tellable = {
        name: row
        for name, row in cells.items()
        if same_units(row["after"], row["before"])
        or same_draws(row["after"], row["before"])
        or (row["after"].image_error is not None and row["before"].image_error is not None)
    }
    spreads = dict.fromkeys(cells, float(count))
    joined = difference(tellable, spreads, "after", "before") if tellable else Difference(p=1.0)
    if joined.p is None:
        return joined
    ahead, images, lucks = joined.ahead, joined.images, list(joined.lucks)
    for name in cells.keys() - tellable.keys():
        alone = _step(cells[name]["before"], cells[name]["after"])
        ahead += alone.ahead / count
        lucks += [(freedom, variance / count**2) for freedom, variance in alone.lucks]
    if not cells.keys() - tellable.keys():
        return joined
    return Difference(
        p=joint_p(ahead, images, lucks), ahead=ahead, images=images, lucks=tuple(lucks)
    )
