"""Rankings of trained backbones: luck of seeds, one seed, and settings that one of them lacks."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest, norm, permutation_test, t

from benchmarks.ranking_power import World, main, play, session
from bob.catalog import Catalog
from bob.report.cells import unsteady_variance
from bob.report.p_values import joint_p, sign_flip
from bob.report.ranking import ALPHA, Ranking
from bob.report.ranking_text import files, lines, notes
from bob.report.significance import difference
from tests.ranking_parts import Play, evaluation_of, ranked, shares

TRIALS = 300
MOST = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)
"""Three standard errors above the level, so that chance fails one of a thousand."""


@pytest.fixture
def run(catalog: Catalog) -> Play:
    return partial(evaluation_of, catalog)


@pytest.mark.parametrize(
    "world",
    [
        World(seeds=(2, 2), deviations=(6.9, 6.9)),
        World(seeds=(2, 2), deviations=(0.3, 6.9)),
        World(seeds=(2, 8), deviations=(6.9, 1.2)),
        World(seeds=(3, 3)),
        World(seeds=(3, 3), deviations=(1.2, 3.4), images=2000),
        World(seeds=(3, 3), deviations=(0.3, 0.3), images=100),
        World(seeds=(3, 3), deviations=(3.4, 3.4), settings=2),
        World(seeds=(5, 5), deviations=(3.4, 3.4), heavy=True),
        World(seeds=(8, 8), deviations=(0.3, 6.9)),
    ],
    ids=lambda world: " ".join(world.name.split()),
)
def test_equal_backbones_are_called_different_no_oftener_than_said(world: World) -> None:
    found = play(world, 0.0, TRIALS, np.random.default_rng(0))
    assert (found.new < ALPHA).mean() <= MOST


def test_as_if_seeds_had_no_luck_the_level_would_not_hold() -> None:
    """The simulation tells: the rule before calls many equal backbones different."""
    found = play(World(deviations=(3.4, 3.4)), 0.0, TRIALS, np.random.default_rng(0))
    assert (found.old < ALPHA).mean() > 2 * MOST


def test_a_large_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    for world, gap, least in (
        (World(deviations=(1.2, 1.2)), 0.10, 0.8),
        (World(seeds=(5, 5), deviations=(3.4, 3.4)), 0.12, 0.9),
    ):
        found = play(world, gap, 100, rng)
        assert (found.new < ALPHA).mean() >= least


def test_many_seeds_and_images_are_the_normal_test_s() -> None:
    """Within a tenth of the deviation that is in the draws."""
    rng = np.random.default_rng(2)
    world = World(seeds=(60, 60), deviations=(2.0, 2.0), images=1500)
    found = play(world, 0.02, 40, rng)
    known = math.hypot(0.02, 0.02) / math.sqrt(60)
    implied = np.abs(found.gaps) / norm.isf(found.new / 2)
    images = math.sqrt(float(np.median(implied)) ** 2 - known**2)
    assert 0.6 * math.sqrt(0.1 / 1500) < images < 1.6 * math.sqrt(0.2 / 1500)


def test_seeds_alone_are_student_s_test_and_images_alone_the_normal_one() -> None:
    assert joint_p(0.1, 0.0, [(4, 0.002)]) == pytest.approx(2 * t.sf(0.1 / math.sqrt(0.002), 4))
    assert joint_p(0.1, 0.002) == pytest.approx(2 * norm.sf(0.1 / math.sqrt(0.002)))
    assert joint_p(0.0, 0.0) == joint_p(0.0, 0.1, [(1, 0.1)]) == 1.0
    assert joint_p(50.0, 0.01, [(60, 0.01)]) < 1e-50


def test_p_falls_with_the_difference_and_rises_with_the_luck() -> None:
    steps = [joint_p(apart, 0.001, [(2, 0.002), (2, 0.001)]) for apart in (0.05, 0.1, 0.3, 2.0)]
    assert steps == sorted(steps, reverse=True)
    lucks = [joint_p(0.2, 0.001, [(2, luck), (4, 0.001)]) for luck in (0.0, 0.001, 0.01, 0.1)]
    assert lucks == sorted(lucks)


@pytest.mark.parametrize("freedom", [(1, 1), (2, 2), (1, 7), (4, 4, 4)])
@pytest.mark.parametrize("other", [0.0, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("images", [0.0, 1.0])
def test_bounds_keep_their_level_whatever_the_shares(
    freedom: tuple[int, ...], other: float, images: float
) -> None:
    rng = np.random.default_rng(3)
    variances = [1.0, *[other] * (len(freedom) - 1)]
    deviation = math.sqrt(sum(variances) + images)
    false = 0
    for _ in range(TRIALS):
        lucks = [
            (count, variance * rng.chisquare(count) / count)
            for count, variance in zip(freedom, variances, strict=True)
        ]
        false += joint_p(deviation * rng.standard_normal(), images, lucks) < ALPHA
    assert false / TRIALS <= MOST


def test_unsteady_variance_is_that_of_single_images() -> None:
    """It is what seeds do to an image beyond what they do to all."""
    rng = np.random.default_rng(0)
    steady = np.repeat(rng.random((1, 4000)) < 0.7, 3, axis=0).astype(float)
    assert unsteady_variance(steady) == 0.0
    assert unsteady_variance(steady[:1]) == 0.0
    flips = rng.random((3, 4000)) < 0.1
    assert unsteady_variance(np.where(flips, 1 - steady, steady)) == pytest.approx(0.09, rel=0.1)


@pytest.mark.parametrize(("plus", "minus"), [(0, 2), (3, 1), (12, 2), (60, 31), (2600, 2400)])
def test_one_setting_is_mcnemar_s_exact_test(run: Play, plus: int, minus: int) -> None:
    first = [True] * plus + [False] * minus + [True] * 5
    second = [False] * plus + [True] * minus + [True] * 5
    found = ranked([run("first", "knn", first), run("second", "knn", second)])
    assert found is not None
    expected = binomtest(plus, plus + minus).pvalue
    assert found.standings[0].p_next == pytest.approx(expected, rel=1e-9)


def test_differences_of_a_few_sizes_are_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.choice([0.01, 0.02, 0.035], 9) * rng.choice([-1, 1], 9, p=[0.3, 0.7])
        counted = permutation_test(
            (sizes,),
            lambda values, axis: np.round(np.sum(values, axis=axis), 12),
            permutation_type="samples",
            vectorized=True,
        )
        assert sign_flip(sizes) == pytest.approx(min(1.0, counted.pvalue))


def test_one_seed_of_a_trained_backbone_tells_nothing(run: Play) -> None:
    """Not even of a difference that no image-wise luck explains."""
    high, low = shares(95, 40)
    found = ranked([run("a", "finetune", high), run("b", "finetune", low)])
    assert found is not None
    for place, standing in enumerate(found.standings, start=1):
        assert (standing.rank, standing.tied, standing.p_next) == (place, False, None)
    assert found.standings[0].one_seed
    text = "\n".join(lines(found))
    assert "p -: trained on one seed" in text
    assert "within noise" not in text


def test_a_seed_that_ran_as_check_and_for_a_reference_is_one(run: Play) -> None:
    """``--bands failed`` runs a seed of the reference first, and once more for the new one."""
    twice = []
    for backbone, right in zip("ab", shares(90, 60), strict=True):
        once = run(backbone, "finetune", right)
        twice.append(replace(once, results=once.results * 2, roles=("check", "reference")))
    ranking = ranked(twice)
    assert ranking is not None
    assert {entry.seeds for row in ranking.cells.values() for entry in row.values()} == {1}
    assert ranking.standings[0].one_seed
    assert ranking.standings[0].p_next is None


def test_one_seed_beside_three_tells_nothing_either_and_an_exact_setting_does_not_help(
    run: Play,
) -> None:
    three, single = shares(95, 94, 96), shares(40)
    apart = ranked([run("a", "finetune", *three), run("b", "finetune", *single)])
    joined = ranked(
        [run("a", "finetune", *single), run("b", "finetune", *single),
         run("a", "knn", three[0]), run("b", "knn", single[0])]
    )  # fmt: skip
    for found in (apart, joined):
        assert found is not None
        assert found.standings[0].p_next is None
    exact = ranked([run("a", "knn", three[0]), run("b", "knn", single[0])])
    assert exact is not None
    assert (exact.standings[0].p_next or 1) < 1e-9
    assert not any("one seed" in text for text in notes(exact))


def test_restless_seeds_make_a_tie_of_what_images_alone_tell_apart(run: Play) -> None:
    calm = ranked([run("a", "finetune", *shares(80, 81, 80)),
                   run("b", "finetune", *shares(60, 61, 60))])  # fmt: skip
    restless = ranked([run("a", "finetune", *shares(95, 80, 66)),
                       run("b", "finetune", *shares(60, 76, 45))])  # fmt: skip
    assert calm is not None
    assert restless is not None
    assert not calm.standings[0].tied
    assert (calm.standings[0].p_next or 1) < 0.01
    assert restless.standings[0].tied


def test_seeds_that_matter_for_nothing_leave_the_images_test(run: Play) -> None:
    """An exact protocol gives each seed the same outcomes."""
    high, low = shares(70, 60)
    once = ranked([run("a", "knn", high), run("b", "knn", low)])
    thrice = ranked([run("a", "knn", high, high, high), run("b", "knn", low, low, low)])
    assert once is not None
    assert thrice is not None
    assert once.standings[0].p_next == thrice.standings[0].p_next


def disputed(run: Play) -> Ranking:
    """``a`` is first for a setting that ``b`` lacks; where both ran ``b`` is far better."""
    near = dict(zip("abcd", shares(62, 68, 10, 10), strict=True))
    far = dict(zip("acd", shares(95, 20, 20), strict=True))
    found = ranked(
        [*(run(key, "knn", right) for key, right in near.items()),
         *(run(key, "linear_probe", right) for key, right in far.items())]
    )  # fmt: skip
    assert found is not None
    return found


def test_an_order_that_shared_settings_contradict_is_a_tie(run: Play) -> None:
    found = disputed(run)
    places = {standing.backbone: standing for standing in found.standings}
    order = [standing.backbone for standing in found.standings]
    upper = next(standing for standing in found.standings if standing.disputed)
    below = places[order[order.index(upper.backbone) + 1]]
    assert upper.p_next is not None
    assert upper.p_next < ALPHA
    assert upper.tied
    assert below.tied
    assert upper.rank == below.rank
    assert f"{upper.p_next:.3f}!" in "\n".join(lines(found))
    assert any(text.startswith("!:") for text in notes(found))
    assert b",disputed," in files(found)["ranking.csv"].splitlines()[0]


def test_no_p_contradicts_the_printed_order(run: Play) -> None:
    """Of random sessions with scores missing: separated neighbours are in order where both ran."""
    rng = np.random.default_rng(5)
    separated = contradicted = 0
    for _ in range(40):
        evaluations = [
            run(key, task, shares(int(rng.integers(20, 98)))[0])
            for key in "abcde"
            for task in ("knn", "linear_probe")
            if rng.random() < 0.7
        ]
        found = ranked(evaluations)
        if found is None:
            continue
        for upper, lower in zip(found.standings, found.standings[1:], strict=False):
            both = upper.z.keys() & lower.z.keys()
            ahead = sum(upper.z[name] - lower.z[name] for name in both)
            contradicted += upper.disputed
            assert upper.disputed == (bool(both) and ahead < -1e-9)
            if lower.rank > upper.rank and upper.p_next is not None:
                separated += 1
                assert ahead > 0
    assert separated > 10
    assert contradicted > 2


def test_the_table_prints_every_rule(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = (World(images=100), World(images=100, seeds=(2, 5), settings=2, apart=True))
    monkeypatch.setattr("benchmarks.ranking_power.WORLDS", worlds)
    assert main(["--trials", "20"]) == 0
    printed = capsys.readouterr().out
    assert "ideal" in printed
    assert all(world.name.rstrip() in printed for world in worlds)


def test_settings_on_the_same_images_are_not_more_images_with_seeds_either() -> None:
    rng = np.random.default_rng(0)
    once = session(World(deviations=(1.0, 1.0)), 0.05, rng)
    (row,) = once.values()
    thrice = {f"{number}": row for number in range(3)}
    found = [difference(cells, dict.fromkeys(cells, 1.0), "a", "b").p for cells in (once, thrice)]
    assert found[0] is not None
    # what seeds do to single images is taken as independent in settings
    assert found[1] == pytest.approx(found[0], rel=0.35)
