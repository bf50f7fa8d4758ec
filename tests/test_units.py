"""The unit of a judged metric decides its scale, its floor and its interval."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bob.case import Case, Result
from bob.catalog import Catalog
from bob.errors import BobError
from bob.intervals import wilson
from bob.ledger import Recorded, Score, best_scores, score_rows
from bob.plan import Plan, Selection
from bob.protocols import Judged
from bob.protocols.spec import UNITS
from bob.references.bands import POOL_SEEDS, case_spread, floor, from_scale, pool, predict, to_scale
from bob.references.files import ReferenceStore
from bob.report.cells import cell
from bob.report.ranking import rank_cells
from bob.report.ranking_text import notes, scores
from bob.run import score_remarks


@pytest.fixture(scope="session")
def auroc(catalog: Catalog) -> Case:
    selection = Selection(scale="full", backbones=("vit_micro_random",))
    return Plan(catalog, selection).cases("finetune_multilabel")[0]


def seeds(case: Case, *values: float, test_size: int = 500) -> list[Score]:
    results = [
        Result(case=case.with_seed(seed), metrics={case.metric: value}, test_size=test_size)
        for seed, value in enumerate(values)
    ]
    return [
        row
        for result in results
        for row in best_scores(
            score_rows(Recorded(entry="", session="", role="check", time="", result=result))
        )
    ]


@pytest.mark.parametrize(
    ("unit", "scale", "has_floor"),
    [
        ("proportion", "angular", True),
        ("bounded", "angular", False),
        ("positive", "log", False),
        ("real", "linear", False),
    ],
)
def test_the_unit_decides_scale_and_floor(unit: str, scale: str, has_floor: bool) -> None:
    judged = Judged("m", unit)  # type: ignore[arg-type]
    assert judged.scale == scale
    assert (floor(judged, 597) > 0) == has_floor
    assert floor(judged, 0) == 0.0


def test_a_unit_that_is_not_known_is_named_with_those_that_are() -> None:
    with pytest.raises(BobError, match=r"'angular'.*bounded.*'auc' needs one"):
        Judged("auc", "angular")  # type: ignore[arg-type]
    with pytest.raises(BobError, match="Did you mean 'proportion'"):
        Judged("top1", "proportions")  # type: ignore[arg-type]


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=8), st.integers(1, 10_000))
def test_the_spread_of_a_bounded_score_is_that_of_its_seeds(values: list[float], n: int) -> None:
    bounded, proportion = Judged("map", "bounded"), Judged("top1", "proportion")
    pooled = pool(bounded, [values])
    assert pooled == pool(proportion, [values])
    spread = case_spread(bounded, values, pooled, n)
    assert spread == case_spread(bounded, values, pooled, 0)
    steadied = case_spread(proportion, values, pooled, n)
    lacking = POOL_SEEDS - min(POOL_SEEDS, pooled.freedom)
    squares = spread.freedom * spread.deviation**2 + lacking / (8 * n)
    assert steadied.freedom == spread.freedom + lacking
    assert steadied.deviation == pytest.approx(math.sqrt(squares / steadied.freedom))


@settings(deadline=None)  # scipy is imported on the way
@given(st.floats(0.0, 1.0), st.integers(1, 10_000))
def test_one_seed_bounds_a_proportion_alone(value: float, n: int) -> None:
    for unit in UNITS:
        judged = Judged("m", unit)
        spread = case_spread(judged, [value], pool(judged, [[value]]), n)
        assert math.isinf(spread.deviation) == (unit != "proportion")
    bounded = Judged("map", "bounded")
    spread = case_spread(bounded, [value], pool(bounded, [[value]]), n)
    band = predict(bounded, [value], spread, seeds=1, alpha=0.05, margin=0.0)
    assert (band.low, band.high) == (0.0, 1.0)


@given(st.floats(1e-6, 1e6))
def test_every_scale_inverts(value: float) -> None:
    for unit in ("positive", "real"):
        judged = Judged("m", unit)  # type: ignore[arg-type]
        assert from_scale(judged, to_scale(judged, value)) == pytest.approx(value)


@given(st.floats(0.0, 1.0), st.integers(1, 10_000))
def test_auroc_has_no_interval_and_accuracy_has_wilson_s(
    auroc: Case, cases: dict[str, Case], value: float, n: int
) -> None:
    entry = cell(seeds(auroc, value, test_size=n))
    assert (entry.value, entry.low, entry.high, entry.image_error) == (value, None, None, None)
    accuracy = cell(seeds(cases["knn vit_micro_random"], value, test_size=n))
    assert (accuracy.low, accuracy.high) == wilson(value, n)


def test_seeds_give_a_bounded_score_no_interval_either(auroc: Case) -> None:
    entry = cell(seeds(auroc, 0.7, 0.8, 0.9))
    assert entry.value == pytest.approx(0.8)
    assert entry.low is None


def test_a_cell_without_an_interval_shows_its_value_alone(
    auroc: Case, cases: dict[str, Case]
) -> None:
    knn = cases["knn vit_micro_random"]
    cells = {
        name: {key: cell(seeds(case, value)) for key, value in (("a", 0.9), ("b", 0.7))}
        for name, case in (("areas", auroc), ("shares", knn))
    }
    mixed = rank_cells(cells, ["a", "b"])
    assert mixed is not None
    rows = {row[0]: row[1:] for row in scores(mixed)}
    assert rows["areas"] == ("0.9000", "0.7000")
    assert rows["shares"] == ("0.9000 [0.87, 0.92]", "0.7000 [0.66, 0.74]")
    assert any("Scores without [ ] are no means" in text for text in notes(mixed))
    bare = rank_cells({"areas": cells["areas"]}, ["a", "b"])
    assert bare is not None
    assert bare.standings[0].p_next is None
    assert not any("[ ]" in text for text in notes(bare))


def test_few_images_are_told_of_proportions_alone(auroc: Case, cases: dict[str, Case]) -> None:
    knn = cases["knn vit_micro_random"]
    (remark,) = score_remarks(knn, {"top1": 0.5}, None, 4)
    assert "4 test images make a coarse score: the 95 % interval of top1 0.5000" in remark
    assert score_remarks(auroc, {"mean_auroc": 0.5}, None, 4) == ()
    assert score_remarks(cases["retrieval vit_micro_random"], {"map": 0.5}, None, 4) == ()


def test_measured_proportions_are_shares_of_the_test_images(
    catalog: Catalog, tmp_path: Path
) -> None:
    """What is declared holds of what was measured: a share times its n is a whole number."""
    store = ReferenceStore(tmp_path)
    whole: dict[tuple[str, str, str], list[bool]] = {}
    for case in Plan(catalog, Selection()).all_cases():
        found = store.find(case)
        assert found is not None
        reference = found[0]
        recipe = case.recipe
        sets = len(getattr(recipe, "shots", ())) + len(getattr(recipe, "fractions", ()))
        count = reference.test_size * max(1, sets * getattr(recipe, "draws", 1))
        for judged in case.judged:
            right = [value * count for value in reference.metric(judged.name)]
            near = [abs(share - round(share)) < 1e-6 * count for share in right]
            whole.setdefault((case.task, judged.name, judged.unit), []).extend(near)
    for (task, name, unit), near in whole.items():
        if unit == "proportion":
            assert all(near), f"{task} {name}"
        else:
            assert fmean(near) < 0.5, f"{task} {name}"
