"""The gate's rules: levels, margins, stages and seeds, each in one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case, Result, Status
from bob.catalog import Catalog, parse_backbone
from bob.plan import Plan, Selection
from bob.references.bands import Spread, predict
from bob.references.files import ReferenceStore
from bob.references.gate import (
    ALPHA_SECOND,
    REFERENCE_SEED,
    SCORE_SHARE,
    check_cases,
    extra_cases,
    levels,
    margin,
    needs_second_stage,
    reference_cases,
    stages,
)
from bob.references.judge import Gate
from tests.conftest import MakeResult


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore(tmp_path / "references", builtin=tmp_path / "none")


def test_metrics_and_their_average_share_the_levels(
    cases: dict[str, Case], tiny_case: Case
) -> None:
    assert [judged.name for judged in tiny_case.judged] == ["top1", "test_loss", "train_loss"]
    shares = [levels(tiny_case, 8, judged) for judged in (*tiny_case.judged, None)]
    assert sum(share.second for share in shares) == pytest.approx(ALPHA_SECOND)
    assert sum(share.first for share in shares) == pytest.approx(stages(8).first)
    assert shares[0] == shares[-1]
    assert shares[0].second == SCORE_SHARE * ALPHA_SECOND
    low_shot = cases["low_shot vit_micro_random"]
    (top1,) = low_shot.judged
    assert (levels(low_shot, 8, top1).first, levels(low_shot, 8, top1).second) == (
        stages(8).first,
        ALPHA_SECOND,
    )


def test_a_small_reference_takes_more_seeds_more_often() -> None:
    assert stages(3).first > stages(8).first
    assert stages(3).extra > stages(8).extra


def test_a_check_repeats_no_run_of_its_reference(tiny_case: Case) -> None:
    case = tiny_case.with_seed(5)
    checked = check_cases(case, 3)
    extra = extra_cases(case, checked, reference_seeds=range(1000, 1008))
    assert [run.seed for run in (*checked, *extra)] == list(range(5, 5 + 3 + stages(8).extra))
    near = tiny_case.with_seed(997)
    further = extra_cases(near, check_cases(near, 2), reference_seeds=[999, 1000, 1002])
    assert [run.seed for run in further] == [1001, *range(1003, 1003 + stages(3).extra - 1)]
    measured = [run.seed for run in reference_cases(case)]
    assert measured == [REFERENCE_SEED + 5 + n for n in range(case.reference_seeds)]
    assert len(reference_cases(case, 2)) == 2


def test_a_check_on_a_reference_s_own_seeds_says_so(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    store.write(tiny_case, [make_result(tiny_case.with_seed(1000 + n), 0.95) for n in range(4)])
    runs = [make_result(tiny_case.with_seed(seed), 0.95) for seed in (999, 1000, 1001)]
    verdict = Gate(store).judge(tiny_case, runs)
    assert verdict.warnings[0].startswith("seeds 1000, 1001 of this check are the reference's own")
    assert not Gate(store).judge(tiny_case, runs[:1]).warnings


def test_where_no_seed_matters_one_run_is_all(cases: dict[str, Case]) -> None:
    knn = cases["knn vit_micro_glyphs"]
    assert not knn.seeded
    assert [run.seed for run in check_cases(knn, 5)] == [0]
    assert [run.seed for run in reference_cases(knn, 5)] == [REFERENCE_SEED]


def test_more_seeds_run_where_a_seeded_metric_is_off_its_band_and_nowhere_else(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    gate = Gate(store)
    chance = gate.judge(tiny_case, [make_result(tiny_case, 0.05)])
    assert chance.status is Status.FAIL
    assert not needs_second_stage(tiny_case, chance), "no reference says nothing of luck"
    store.write(tiny_case, [make_result(tiny_case.with_seed(1000 + n), 0.95) for n in range(4)])
    good = gate.judge(tiny_case, [make_result(tiny_case, 0.95)])
    assert not needs_second_stage(tiny_case, good)
    poor = gate.judge(tiny_case, [make_result(tiny_case, 0.5)])
    assert needs_second_stage(tiny_case, poor)
    loss = gate.judge(tiny_case, [make_result(tiny_case, 0.95, test_loss=9.0)])
    assert needs_second_stage(tiny_case, loss)
    missing = gate.judge(tiny_case, [Result(case=tiny_case, metrics={"top1": 0.95})])
    assert missing.status is Status.FAIL
    assert not needs_second_stage(tiny_case, missing)
    recipe = tiny_case.recipe.model_copy(update={"epochs": 3})
    other_protocol = replace(tiny_case, recipe=recipe)
    stale = gate.judge(other_protocol, [make_result(other_protocol, 0.5)])
    assert stale.status is Status.FAIL
    assert not needs_second_stage(other_protocol, stale)


def test_an_exact_case_has_no_second_stage(store: ReferenceStore, cases: dict[str, Case]) -> None:
    knn = cases["knn vit_micro_glyphs"]

    def scored(seed: int, top1: float) -> Result:
        metrics = {"top1": top1, "vote_share": 0.6}
        return Result(case=knn.with_seed(seed), metrics=metrics, weights_digest="w")

    store.write(knn, [scored(REFERENCE_SEED, 0.9)])
    verdict = Gate(store).judge(knn, [scored(0, 0.5)])
    assert verdict.status is Status.FAIL
    assert verdict.comparisons
    assert not needs_second_stage(knn, verdict)


@pytest.mark.parametrize("metric", ["top1", "vote_share"])
def test_every_metric_has_the_margin_of_its_case(
    store: ReferenceStore, cases: dict[str, Case], metric: str
) -> None:
    """In an exact band the margin is the whole half-width."""
    knn = replace(cases["knn vit_micro_glyphs"], margins={"top1": 0.1, "vote_share": 0.1})
    known = {"top1": 0.5, "vote_share": 0.5}

    def scored(seed: int, **metrics: float) -> Result:
        return Result(case=knn.with_seed(seed), metrics={**known, **metrics}, weights_digest="w")

    store.write(knn, [scored(REFERENCE_SEED)])
    gate = Gate(store)
    run = [scored(0, **{metric: 0.42})]
    assert gate.judge(knn, run).status is Status.PASS
    narrower = replace(knn, margins={**knn.margins, metric: 0.05})
    verdict = gate.judge(narrower, run)
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith(f"{metric} 0.4200 is below its band [0.4500, 0.5500]")
    unnamed = {name: value for name, value in knn.margins.items() if name != metric}
    assert margin(replace(knn, margins=unnamed), knn.judged[0 if metric == "top1" else 1]) == 0.0
    assert gate.judge(replace(knn, margins=unnamed), [scored(0)]).status is Status.PASS


def test_a_comparison_is_the_band_of_the_case_s_rules(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    """Margins wider than any spread: the edges are theirs, a difference here and a share there."""
    case = replace(tiny_case, margins={"top1": 0.3, "test_loss": 0.5})
    assert case.margin == 0.3
    store.write(case, [make_result(case.with_seed(1000 + n), 0.6) for n in range(4)])
    verdict = Gate(store).judge(case, [make_result(case, 0.6)])
    top1, test_loss, train_loss = verdict.comparisons
    assert (top1.low, top1.high) == (pytest.approx(0.3), pytest.approx(0.9))
    assert (test_loss.low, test_loss.high) == (pytest.approx(0.15), pytest.approx(0.45))
    shares = levels(case, 4, case.judged[2])
    better, worse = (
        predict(case.judged[2], [0.5] * 4, Spread(0.0, 6), seeds=1, alpha=alpha, margin=0.0)
        for alpha in (shares.second, shares.first)
    )
    assert (train_loss.low, train_loss.high) == (better.low, worse.high)


def test_nothing_outside_the_band_that_is_shown_passes_without_a_word(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    scores = [0.80, 0.82, 0.81, 0.79, 0.83, 0.8]
    runs = [make_result(tiny_case.with_seed(1000 + n), top1) for n, top1 in enumerate(scores)]
    store.write(tiny_case, runs)
    seen = set()
    for step in range(200):
        verdict = Gate(store).judge(tiny_case, [make_result(tiny_case, 0.7 + step / 1000)])
        score = verdict.score
        assert score is not None
        inside = score.low <= score.value <= score.high
        assert inside == (score.status is Status.PASS and not score.improved)
        assert ("is in its band" in verdict.reason) == inside
        assert ("above its band" in verdict.reason) == score.improved
        seen.add((inside, score.improved))
    assert seen == {(True, False), (False, True), (False, False)}


def test_a_score_without_chance_is_not_held_against_it(
    store: ReferenceStore, tiny_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol of a package may score by a loss: guessing classes says nothing of that."""
    from bob.protocols import PROTOCOLS, Judged

    spec = replace(
        PROTOCOLS["finetune"], name="loss_only", judged=(Judged("nll", "positive", False),)
    )
    monkeypatch.setitem(PROTOCOLS._found[0], "loss_only", spec)
    case = replace(tiny_case, task="loss_only")
    verdict = Gate(store).judge(case, [Result(case=case, metrics={"nll": 0.01})])
    assert verdict.status is Status.NO_REFERENCE
    assert "gives no chance_bound" in verdict.reason


def test_a_pretrained_backbone_has_to_beat_its_twin_however_wide_its_band(
    store: ReferenceStore, catalog: Catalog
) -> None:
    plan = Plan(catalog, Selection(scale="smoke"))
    found = {case.backbone.key: case for case in plan.cases("finetune")}
    trained, anew = found["vit_micro_glyphs"], found["vit_micro_random"]
    assert (trained.twin, anew.twin) == ("vit_micro_random", "")

    def run(case: Case, seed: int, top1: float) -> Result:
        metrics = {"top1": top1, "test_loss": 0.5, "train_loss": 0.5}
        return Result(case=case.with_seed(seed), metrics=metrics, weights_digest="w")

    wild = [0.5, 0.9, 0.7, 0.95, 0.6]
    store.write(trained, [run(trained, 1000 + n, top1) for n, top1 in enumerate(wild)])
    assert Gate(store).judge(trained, [run(trained, 0, 0.45)]).status is Status.PASS
    store.write(anew, [run(anew, 1000 + n, 0.5) for n in range(3)])
    verdict = Gate(store).judge(trained, [run(trained, 0, 0.45)])
    assert verdict.status is Status.FAIL
    assert verdict.score is not None
    assert verdict.score.low == pytest.approx(0.5)
    assert Gate(store).judge(trained, [run(trained, 0, 0.55)]).status is Status.PASS
    better = [run(anew, 1000 + n, 0.99) for n in range(3)]
    store.write(anew, better)
    unchanged = Gate(store).judge(trained, [run(trained, 0, 0.7)])
    assert unchanged.status is Status.PASS, "an edge is not drawn past the reference"


def test_twins_are_found_by_source_and_arguments(catalog: Catalog) -> None:
    twins = {key: catalog.twin_of(entry) for key, entry in catalog.backbones.items()}
    assert twins["swin_micro_glyphs"] == "swin_micro_random"
    assert twins["resnet50_tv_in1k"] == "resnet50_random"
    assert twins["resnet50_random"] == twins["resnet50_random"] == ""
    assert twins["pixels_coarse"] == ""
    named = parse_backbone("timm:resnet50.a1_in1k", catalog)
    assert catalog.twin_of(named) == "resnet50_random"
    assert catalog.twin_of(parse_backbone("timm:resnet50,pretrained=false", catalog)) == ""


def test_no_band_reaches_below_chance(
    store: ReferenceStore, tiny_case: Case, make_result: MakeResult
) -> None:
    wild = [0.2, 0.6, 0.3, 0.5, 0.25]
    store.write(
        tiny_case, [make_result(tiny_case.with_seed(1000 + n), x) for n, x in enumerate(wild)]
    )
    verdict = Gate(store).judge(tiny_case, [make_result(tiny_case, 0.11)])
    assert verdict.status is Status.FAIL
    assert verdict.score is not None
    assert 0.1 < verdict.score.low < 0.15, "what guesses among ten classes stay below"
    guesses = [0.1, 0.11, 0.09, 0.1, 0.1]
    store.write(
        tiny_case, [make_result(tiny_case.with_seed(1000 + n), x) for n, x in enumerate(guesses)]
    )
    unchanged = Gate(store).judge(tiny_case, [make_result(tiny_case, 0.1)])
    assert unchanged.status is Status.PASS
    assert unchanged.guards_little
