"""Two sides against each other: beside statsmodels and scipy, and where nothing can be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from benchmarks import compare_power
from benchmarks.ranking_power import cell_of
from bob.report.cells import Cell
from bob.report.comparison import Answer, Contrast, Pair, compare
from bob.report.p_values import holm, joint_bound, joint_p

Right = NDArray[np.float64]


def fixed(right: Right) -> Cell:
    """A backbone in which nothing is random, from which images it got right, ``(n,)``."""
    return replace(cell_of(right[None], "data"), seeded=False)


def pair(before: Cell, after: Cell, *, delta: float = 0.0, setting: str = "knn/x top1") -> Pair:
    return Pair(subject="", setting=setting, before=before, after=after, delta=delta)


def only(before: Cell, after: Cell, *, delta: float = 0.0) -> Contrast:
    (contrast,) = compare([pair(before, after, delta=delta)]).contrasts
    return contrast


def outcomes(images: int, share: float, seed: int) -> Right:
    return (np.random.default_rng(seed).random(images) < share).astype(float)


def flipped(right: Right, lost: int, won: int) -> Right:
    """The same, with so many right images wrong and so many wrong ones right."""
    found = right.copy()
    found[np.flatnonzero(right)[:lost]] = 0
    found[np.flatnonzero(right == 0)[:won]] = 1
    return found


def test_of_fixed_backbones_p_is_mcnemars() -> None:
    first = outcomes(597, 0.8, 0)
    for lost, won in ((30, 12), (12, 30), (9, 8), (5, 0)):
        contrast = only(fixed(first), fixed(flipped(first, lost, won)))
        expected = binomtest(won, lost + won).pvalue
        assert contrast.p == pytest.approx(expected, rel=1e-6)
        assert contrast.effect == pytest.approx((won - lost) / 597)
        sure = expected < 0.05
        better = Answer.BETTER if won > lost else Answer.WORSE
        assert contrast.answer is (better if sure else Answer.UNDECIDED)


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(3)
    for count in (1, 2, 7, 30):
        p_values = rng.random(count) ** 3
        expected = multipletests(p_values, method="holm")[1]
        np.testing.assert_allclose(holm(p_values.tolist()), expected)
    assert holm([]) == []
    assert holm([0.01, 0.01]) == [0.02, 0.02]


def test_equivalence_is_the_two_one_sided_tests_of_statsmodels() -> None:
    first = outcomes(20_000, 0.8, 1)
    second = flipped(first, 410, 400)
    for delta in (0.002, 0.005, 0.02):
        expected = ttost_paired(second, first, -delta, delta)[0]
        found = only(fixed(first), fixed(second), delta=delta)
        assert found.p_equivalent == pytest.approx(expected, rel=0.05, abs=1e-4)
        assert found.answer is (Answer.EQUIVALENT if expected < 0.05 else Answer.UNDECIDED)
    assert only(fixed(first), fixed(second)).p_equivalent is None


def test_an_interval_is_where_p_turns() -> None:
    for images, seeds in ((1e-4, []), (1e-4, [(2, 3e-5)]), (0.0, [(4, 1e-4), (4, 2e-6)])):
        bound = joint_bound(images, seeds, 0.05)
        assert joint_p(bound, images, seeds) == pytest.approx(0.05, rel=1e-6)
    first = outcomes(597, 0.8, 2)
    contrast = only(fixed(first), fixed(flipped(first, 40, 10)))
    assert contrast.low is not None
    assert contrast.high is not None
    assert contrast.low < contrast.effect < contrast.high < 0


def test_a_real_difference_that_does_not_matter_is_equivalent() -> None:
    first = outcomes(20_000, 0.8, 1)
    second = flipped(first, 60, 10)
    assert only(fixed(first), fixed(second)).answer is Answer.WORSE
    assert only(fixed(first), fixed(second), delta=0.01).answer is Answer.EQUIVALENT


def test_the_same_outcomes_of_few_images_prove_little() -> None:
    first = fixed(outcomes(40, 0.8, 4))
    other = replace(first, value=first.value, by_seed={7: first.value}, seeded=False)
    assert only(first, other, delta=0.005).answer is Answer.IDENTICAL
    one_image = fixed(flipped(outcomes(40, 0.8, 4), 1, 1))
    assert only(first, one_image, delta=0.005).answer is Answer.UNDECIDED


def seeded(seeds: int, level: float, spread: float, rng: np.random.Generator) -> Cell:
    right = np.stack(
        [rng.random(2000) < level + spread * rng.standard_normal() for _ in range(seeds)]
    )
    return cell_of(right.astype(float), "data")


def test_one_seed_decides_nothing_and_says_so() -> None:
    rng = np.random.default_rng(0)
    contrast = only(seeded(1, 0.5, 0.01, rng), seeded(1, 0.9, 0.01, rng))
    assert contrast.answer is Answer.UNDECIDED
    assert contrast.p is None
    assert "--seeds 3" in contrast.why


def test_more_seeds_that_would_tell_do_tell() -> None:
    rng = np.random.default_rng(2)
    contrast = only(seeded(3, 0.80, 0.03, rng), seeded(3, 0.75, 0.03, rng))
    assert contrast.answer is Answer.UNDECIDED
    assert contrast.seeds_to_decide is not None
    assert f"about {contrast.seeds_to_decide} seeds" in contrast.why
    seeds = 2 * contrast.seeds_to_decide
    again = only(seeded(seeds, 0.80, 0.03, rng), seeded(seeds, 0.75, 0.03, rng))
    assert again.answer is Answer.WORSE


def test_scores_without_images_are_compared_by_their_seeds() -> None:
    def of(*values: float) -> Cell:
        mean = float(np.mean(values))
        return Cell(value=mean, seeds=len(values), by_seed=dict(enumerate(values)), seeded=True)

    assert only(of(0.30, 0.31, 0.32), of(0.20, 0.21, 0.19)).answer is Answer.WORSE
    assert only(of(0.30, 0.31, 0.32), of(0.31, 0.29, 0.33)).answer is Answer.UNDECIDED
    single = only(of(0.3), of(0.2))
    assert "--seeds 3" in single.why
    constant = replace(of(0.3), seeded=False)
    untold = only(constant, replace(constant, value=0.2))
    assert untold.answer is Answer.UNDECIDED
    assert "no error is known" in untold.why
    both = compare([
        pair(of(0.30, 0.31, 0.32), of(0.20, 0.21, 0.19), setting="detection/a box_ap"),
        pair(fixed(outcomes(500, 0.8, 1)), fixed(outcomes(500, 0.6, 2)), setting="knn/b top1"),
    ])  # fmt: skip
    assert both.overall is not None
    assert both.overall.effect == pytest.approx(np.mean([c.effect for c in both.contrasts]))
    assert both.overall.answer is Answer.WORSE


def test_seeds_that_both_ran_may_be_identical() -> None:
    rng = np.random.default_rng(1)
    three = seeded(3, 0.8, 0.01, rng)
    single = replace(
        three, value=three.by_seed[1], seeds=1, by_seed={1: three.by_seed[1] + 4e-7}, units=None
    )
    (same,) = compare([replace(pair(three, single), subject="a")]).contrasts
    assert (same.answer, same.effect, same.before) == (Answer.IDENTICAL, 0.0, same.after)
    assert only(three, single).answer is Answer.UNDECIDED  # of two backbones luck may be alike
    moved = replace(single, by_seed={1: three.by_seed[1] + 2e-3})
    assert only(three, moved).answer is Answer.UNDECIDED
    units = three.units
    assert units is not None
    exchanged = replace(three, units=units[::-1].copy())
    assert only(three, exchanged).answer is not Answer.IDENTICAL


def test_what_is_identical_has_no_part_in_the_error_of_the_whole() -> None:
    """Whatever else one of its sides ran: the overall effect is that of the rows."""
    rng = np.random.default_rng(3)
    two = seeded(2, 0.9, 0.01, rng)
    collapsed = {2: 0.6, 3: 0.61, 4: 0.6}
    more = replace(two, by_seed={**two.by_seed, **collapsed}, seeds=5, value=0.72, units=None)
    first = outcomes(597, 0.8, 5)
    moved = replace(pair(fixed(first), fixed(flipped(first, 40, 10))), subject="a")
    compared = compare([replace(pair(two, more, setting="finetune/x top1"), subject="a"), moved])
    same, worse = compared.contrasts
    assert same.answer is Answer.IDENTICAL
    assert worse.answer is Answer.WORSE
    whole = compared.overall
    assert whole is not None
    assert whole.effect == pytest.approx(worse.effect / 2)
    assert whole.after - whole.before == pytest.approx(whole.effect)
    assert whole.answer is Answer.WORSE


def test_settings_on_the_same_images_are_one_piece_of_evidence() -> None:
    first, second = outcomes(597, 0.8, 5), flipped(outcomes(597, 0.8, 5), 25, 10)
    alone = compare([pair(fixed(first), fixed(second))])
    twice = compare([pair(fixed(first), fixed(second), setting=name) for name in ("a", "b", "c")])
    assert alone.overall is not None
    assert twice.overall is not None
    assert twice.overall.p == pytest.approx(alone.overall.p)
    assert twice.overall.low == pytest.approx(alone.overall.low)
    apart = [
        pair(replace(fixed(first), units_of=name), replace(fixed(second), units_of=name))
        for name in ("a", "b", "c")
    ]
    other = compare(apart).overall
    assert other is not None
    assert other.p is not None
    assert other.p < (alone.overall.p or 0) / 5


def test_several_settings_are_paid_for() -> None:
    first, second = outcomes(597, 0.8, 5), flipped(outcomes(597, 0.8, 5), 25, 10)
    assert only(fixed(first), fixed(second)).answer is Answer.WORSE
    same = fixed(flipped(first, 3, 3))
    many = [pair(fixed(first), fixed(second))]
    many += [pair(fixed(first), same, setting=str(number)) for number in range(9)]
    compared = compare(many)
    assert compared.contrasts[0].answer is Answer.UNDECIDED
    assert compared.contrasts[0].adjusted == pytest.approx(10 * (compared.contrasts[0].p or 0))


@pytest.mark.slow
def test_mistakes_are_no_oftener_than_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_power.main(["--pairs", "40"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "apart" in line]
    shares = [[float(cell) for cell in line.replace("%", " ").split()[-5:]] for line in lines]
    assert all(row[2] >= 40 for row in shares), shares  # five deviations are mostly found
    assert all(row[4] >= 95 for row in shares), shares  # what is far smaller than matters
