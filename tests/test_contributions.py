"""What each image contributes to scores over shifts and draws, and comparing two sides by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test

from bob.case import Case, Context, Contributions, ImageList, Result, Status, Verdict
from bob.catalog import load_catalog
from bob.datasets import Shift, Split
from bob.errors import BobError
from bob.evaluation import Evaluation
from bob.ledger import Ledger, Recorded, best_scores, score_rows
from bob.ledger.records import entry_name, now
from bob.ledger.score import units_of
from bob.ledger.units import units_of_result
from bob.metrics.draws import DrawScore, draw_contributions, draw_metrics
from bob.metrics.shift import ShiftScore, shift_contributions, shift_metrics
from bob.plan import Plan, Selection
from bob.report.cells import Cell, cell
from bob.report.comparison import Pair, compare
from bob.report.significance import difference
from bob.run import run_case
from tests.ranking_parts import ranked

Right = NDArray[np.bool_]
Run = Callable[..., Result]


def score_of(right: Right, targets: torch.Tensor, *, group: str = "g", step: int = 0) -> ShiftScore:
    images = torch.zeros(len(targets), 3, 1, 1, dtype=torch.uint8)
    shift = Shift(name="s", split=Split(images, targets), group=group, step=step)
    top1 = float(right.mean())
    return ShiftScore(shift, top1, top1, 0.0, 1.0, 1.0, right)


def classes(count: int, seed: int) -> torch.Tensor:
    return torch.randint(10, (count,), generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(
    groups=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_their_mean_is_the_score_however_shifts_are_grouped(
    groups: list[list[int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = [
        score_of(rng.random(30 * size) < rng.random(), classes(30 * size, size), group=str(name))
        for name, sizes in enumerate(groups)
        for size in sizes
    ]
    found = shift_contributions(scores, classes(90, 99))
    expected = shift_metrics(scores, 1.0, 90, None)["shifted_top1"]
    assert found.values.mean() == pytest.approx(expected, abs=1e-9)
    kinds = {size for sizes in groups for size in sizes}
    assert sorted(images.count for images in found.lists) == sorted(30 * size for size in kinds)
    assert sum(images.share for images in found.lists) == pytest.approx(1)


def test_an_image_under_many_corruptions_is_one_unit() -> None:
    source = classes(600, 0)
    right = np.random.default_rng(0).random((13, 150)) < 0.6
    scores = [
        score_of(row, source[::4], group=str(number), step=4) for number, row in enumerate(right)
    ]
    found = shift_contributions(scores, source)
    np.testing.assert_allclose(found.values, right.mean(axis=0))
    (images,) = found.lists
    assert (images.count, images.step) == (150, 4)
    assert images.digest == ImageList.of(source.numpy()).digest
    # what is said of other images does not hold
    (own,) = shift_contributions(scores, classes(600, 1)).lists
    assert (own.step, own.digest) == (1, ImageList.of(source[::4].numpy()).digest)


def test_other_images_are_further_units() -> None:
    first, second = classes(40, 1), classes(20, 2)
    scores = [
        score_of(np.ones(40, np.bool_), first, group="a"),
        score_of(np.zeros(40, np.bool_), first, group="a"),
        score_of(np.arange(20) < 5, second, group="b"),
    ]
    found = shift_contributions(scores, classes(40, 3))
    assert found.values.mean() == pytest.approx((0.5 + 0.25) / 2)
    assert [(images.count, images.share) for images in found.lists] == [(40, 0.5), (20, 0.5)]
    assert found.values[:40].sum() / 60 == pytest.approx(0.25)


def test_draws_that_do_not_say_what_was_right_contribute_nothing() -> None:
    right = np.random.default_rng(0).random((5, 30)) < 0.5
    draws = [DrawScore(float(row.mean()), {}, {0: 0.5}, row) for row in right]
    scores = {"1shot": draws[:2], "10pct": draws[2:]}
    found = draw_contributions(scores, classes(30, 0))
    assert found is not None
    assert found.values.mean() == pytest.approx(draw_metrics(scores)["top1"])
    scores["10pct"][1] = replace(draws[3], correct=None)
    assert draw_contributions(scores, classes(30, 0)) is None


@pytest.mark.parametrize(
    "values", [np.ones(2), np.ones((3, 1)), np.array([1.0, np.nan, 0.0]), np.array(["a", "b", "c"])]
)
def test_contributions_are_a_number_for_each_image(values: NDArray[np.float64]) -> None:
    with pytest.raises(BobError, match="contributions are"):
        Contributions(values=values, lists=(ImageList(count=3, digest="d"),))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Results of real cases, each run once."""
    found: dict[str, Result] = {}
    context = Context(
        accelerator="cpu", workers=0, features=str(tmp_path_factory.mktemp("features"))
    )

    def of(case: Case) -> Result:
        if case.id not in found:
            found[case.id] = run_case(case, context)
        assert found[case.id].failure is None
        return found[case.id]

    return of


def case_of(task: str, dataset: str, backbone: str = "resnet_micro_glyphs") -> Case:
    selection = Selection(backbones=(backbone,), datasets=(dataset,))
    (case,) = Plan(load_catalog(), selection).cases(task)
    return case


UNITS = {
    ("ood", "digits_c"): [(150, 4)],
    ("ood", "font_digits"): [(597, 1), (320, 1)],
    ("low_shot", "digits"): [(597, 1)],
    ("finetune", "font_digits"): [(597, 1), (320, 1)],
    ("low_shot_finetune", "digits"): [(597, 1)],
}


def small(case: Case) -> Case:
    changes = {"finetune": {"epochs": 1, "warmup_epochs": 0},
               "low_shot_finetune": {"draws": 2, "least_updates": 3, "epochs": 1}}  # fmt: skip
    return replace(case, recipe=case.recipe.model_copy(update=changes.get(case.task, {})))


@pytest.mark.slow
@pytest.mark.parametrize(("task", "dataset"), UNITS)
def test_of_a_real_result(run: Run, tmp_path: Path, task: str, dataset: str) -> None:
    result = run(small(case_of(task, dataset)))
    found = result.contributions
    assert found is not None
    assert [(images.count, images.step) for images in found.lists] == UNITS[task, dataset]
    score = result.metrics["top1" if "low_shot" in task else "shifted_top1"]
    assert found.values.mean() == pytest.approx(score, abs=1e-6)
    units = units_of_result(result)
    assert units is not None
    if task == "finetune":  # the score is that of the source
        assert result.outcomes is not None
        np.testing.assert_array_equal(units.values, result.outcomes.correct)
    else:
        np.testing.assert_array_equal(units.values, found.values)
        assert units.lists == found.lists
    ledger = Ledger(tmp_path)
    ledger.open_session("s", {})
    name = entry_name(result.case, "check")
    ledger.write(Recorded(entry=name, session="s", role="check", time=now(), result=result))
    (entry,) = ledger.entries()
    read = entry.result.contributions
    assert read is not None
    assert read.lists == found.lists
    assert read.values.dtype == found.values.dtype
    np.testing.assert_array_equal(read.values, found.values)


@pytest.mark.slow
def test_two_backbones_are_compared_by_signs_of_their_images(run: Run) -> None:
    """Beside scipy: the two scores of every image exchange places, wherever it was seen."""
    names = ("convnext_micro_glyphs", "resnet_micro_glyphs")
    results = [run(case_of("ood", "font_digits", name)) for name in names]
    first, second = (result.contributions for result in results)
    assert first is not None
    assert second is not None
    expected = permutation_test(
        (first.values, second.values), lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=50_000, rng=1,
    ).pvalue  # fmt: skip
    assert 0.05 < expected < 0.95
    ranking = ranked([evaluation_of(result) for result in results])
    assert ranking is not None
    assert ranking.standings[0].p_next == pytest.approx(expected, abs=0.02)
    before, after = (cell_of(result) for result in results)
    (contrast,) = compare([pair(before, after)]).contrasts
    assert contrast.p == pytest.approx(expected, abs=0.02)
    assert contrast.why.startswith("more seeds would not tell")
    parts = second.values - first.values
    error = np.sqrt((np.square(parts)).sum()) / len(parts)
    assert contrast.high is not None
    assert contrast.high - contrast.effect == pytest.approx(1.96 * error, rel=0.02)


@pytest.mark.slow
def test_two_backbones_that_each_win_a_setting_dispute_nothing(run: Run) -> None:
    names = ("convnext_micro_glyphs", "resnet_micro_glyphs")
    results = [
        run(case_of("ood", data, name)) for name in names for data in ("digits_c", "font_digits")
    ]
    ranking = ranked([evaluation_of(result) for result in results])
    assert ranking is not None
    assert [standing.wins for standing in ranking.standings] == [1, 1]
    assert not any(standing.disputed for standing in ranking.standings)


@pytest.mark.slow
def test_an_interval_holds_each_list_to_its_own_mean(run: Run) -> None:
    found = cell_of(run(case_of("ood", "font_digits")))
    assert found.units is not None
    parts = found.units[:597] / 917, found.units[597:] / 917
    error = np.sqrt(sum(len(part) * part.var(ddof=1) for part in parts))
    assert found.image_error == pytest.approx(error)
    assert found.low == pytest.approx(found.value - 1.959964 * error)


def evaluation_of(result: Result) -> Evaluation:
    verdict = Verdict(status=Status.NO_REFERENCE, reason="")
    return Evaluation(case=result.case, results=(result,), verdict=verdict)


def cell_of(result: Result) -> Cell:
    recorded = Recorded(entry="", session="", role="check", time="", result=result)
    return cell(best_scores(score_rows(recorded)), units_of([recorded]))


def pair(before: Cell, after: Cell, setting: str = "ood/x shifted_top1") -> Pair:
    return Pair(subject="", setting=setting, before=before, after=after, delta=0.0)


def corrupted(rng: np.random.Generator, hard: NDArray[np.float64], step: int = 1) -> Cell:
    """A backbone on every ``step``-th of some images under thirteen corruptions."""
    own = rng.normal(0, 0.7, len(hard))
    noise = rng.normal(0, 0.5, (13, len(hard)))
    right = (hard + own + noise > 0)[:, ::step]
    targets = classes(len(hard), 0)
    scores = [
        score_of(row, targets[::step], group=str(n), step=step) for n, row in enumerate(right)
    ]
    found = shift_contributions(scores, targets)
    return Cell(
        value=float(right.mean()), image_error=0.01, units=found.values, units_of="shifted",
        lists=found.lists, by_seed={0: float(right.mean())},
    )  # fmt: skip


def test_equal_backbones_are_seldom_called_different_under_corruptions() -> None:
    rng = np.random.default_rng(0)
    called = independent = 0
    for _ in range(600):
        hard = rng.normal(0, 1, 150)
        cells = {name: corrupted(rng, hard) for name in "ab"}
        p = difference({"": cells}, {"": 1.0}, "a", "b").p
        assert p is not None
        called += p < 0.05
        # as if every corruption showed other images
        gap = abs(cells["a"].value - cells["b"].value)
        shares = [entry.value for entry in cells.values()]
        error = np.sqrt(sum(share * (1 - share) for share in shares) / (13 * 150))
        independent += gap > 1.96 * error
    assert 0.025 <= called / 600 <= 0.075
    assert independent / 600 > 0.15


def test_corruptions_share_the_luck_of_the_images_they_are_made_of() -> None:
    """Two backbones of the same luck in three settings: those are not three pieces of evidence."""
    rng = np.random.default_rng(1)
    called = {"together": 0, "apart": 0}
    for _ in range(300):
        hard, own = rng.normal(0, 1, 120), rng.normal(0, 0.7, (2, 120))
        together = {
            setting: {
                key: replace(corrupted(rng, hard + mine, step), units_of=setting)
                for key, mine in zip("ab", own, strict=True)
            }
            for setting, step in (("knn", 1), ("ood", 1), ("ood 4", 4))
        }
        apart = {
            setting: {key: replace(entry, lists=()) for key, entry in row.items()}
            for setting, row in together.items()
        }
        for name, cells in (("together", together), ("apart", apart)):
            p = difference(cells, dict.fromkeys(cells, 1.0), "a", "b").p
            assert p is not None
            called[name] += p < 0.05
    assert called["together"] / 300 <= 0.08
    assert called["apart"] / 300 > 0.1
