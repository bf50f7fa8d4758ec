"""What a user's factory returns is one run's own, and all of it is trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bob.backbones.build import build_backbone
from bob.case import Case, Context, Result
from bob.catalog import Catalog, parse_backbone
from bob.plan import Plan, Selection
from bob.run import run_case
from tests import user_factories

FACTORIES = "tests.user_factories"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bob.backbones.factory._KEEPS", {})
    monkeypatch.setattr("bob.backbones.factory._REFUSED", {})
    user_factories._state.cache_clear()
    user_factories._LATER.clear()
    user_factories.cached.cache_clear()
    user_factories.cached_pretrained.cache_clear()


@pytest.fixture
def run(catalog: Catalog, tmp_path: Path) -> Callable[..., Result]:
    """Runs a task of a factory's backbone, features in a store of the test's own."""

    def one_run(factory: str, task: str = "finetune", *, seed: int = 0, store: str = "") -> Result:
        scale = "tiny" if task == "finetune" else "smoke"
        spec = f"{FACTORIES}:{factory}"
        plan = Plan(catalog, Selection(scale=scale, backbones=(spec,)))
        case: Case = replace(plan.cases(task)[0], seed=seed)
        context = Context(accelerator="cpu", workers=0, features=str(tmp_path / (store or "all")))
        return run_case(case, context=context, emit=lambda progress: None)

    return one_run


def scores(result: Result) -> Mapping[str, float]:
    assert result.failure is None, result.failure
    told = ("images_per_second", "images_extracted", "images_reused")
    return {name: value for name, value in result.metrics.items() if name not in told}


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["cached", "fresh"])
def test_seeds_of_a_cached_factory_are_those_of_a_fresh_one(
    run: Callable[..., Result], factory: str
) -> None:
    alone = {}
    for seed in (2, 1, 0):
        user_factories.cached.cache_clear()
        alone[seed] = scores(run("fresh", seed=seed))
    assert alone[0] != alone[1]
    assert {seed: scores(run(factory, seed=seed)) for seed in (0, 1, 2)} == alone


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["cached_pretrained", "kept", "kept_trunk"])
def test_scores_do_not_depend_on_the_order_of_cases(
    run: Callable[..., Result], factory: str
) -> None:
    tasks = ("knn", "finetune", "low_shot")
    alone = {task: scores(run(factory, task, store=f"alone {task}")) for task in tasks}
    for number, order in enumerate((tasks[::-1], ("finetune", "knn", "low_shot"))):
        together = {task: scores(run(factory, task, store=f"order {number}")) for task in order}
        assert together == alone, order


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(2))
def test_any_three_cases_score_the_same_in_any_order(
    catalog: Catalog, tmp_path: Path, draw: int
) -> None:
    """Three of the quick cases, drawn at random, alone and together."""
    tasks = ("knn", "retrieval", "low_shot", "linear_probe")
    plan = Plan(catalog, Selection(scale="smoke"))
    quick = [case for task in tasks for case in plan.cases(task)]
    tiny = Plan(catalog, Selection(scale="tiny")).cases("finetune")
    chosen = [*random.Random(draw).sample(quick, 2), tiny[draw % len(tiny)]]

    def played(case: Case, store: str) -> Mapping[str, float]:
        context = Context(accelerator="cpu", workers=0, features=str(tmp_path / store))
        return scores(run_case(case, context=context))

    alone = [played(case, f"alone {number}") for number, case in enumerate(chosen)]
    for number, order in enumerate(((0, 1, 2), (2, 0, 1))):
        together = {place: played(chosen[place], f"order {number}") for place in order}
        assert [together[place] for place in range(3)] == alone


def test_training_does_not_reach_what_a_factory_keeps(run: Callable[..., Result]) -> None:
    before = {name: value.clone() for name, value in user_factories._KEPT.state_dict().items()}
    assert run("kept").failure is None
    for name, value in user_factories._KEPT.state_dict().items():
        assert torch.equal(value, before[name])
    assert user_factories._KEPT.training  # nor its mode


@pytest.mark.parametrize("factory", ["kept_random", "inner_cache", "half_kept"])
def test_a_factory_that_keeps_random_weights_is_refused(
    run: Callable[..., Result], factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        user_factories,
        "half_kept",
        lambda: user_factories.Net(user_factories.kept_random().trunk),
        raising=False,
    )
    for seed in (0, 0, 1):  # whatever came before
        failure = run(factory, "knn", seed=seed).failure
        assert failure is not None
        assert "called a second time from the same random state" in failure.message


def test_a_closure_over_the_module_runs_as_a_method_does(run: Callable[..., Result]) -> None:
    for task in ("knn", "finetune"):
        assert scores(run("patched", task)) == scores(run("fresh", task))


@pytest.mark.parametrize(("factory", "task"), [("kept_patched", "knn"), ("patched", "low")])
def test_a_copy_that_would_run_the_original_is_refused(
    run: Callable[..., Result], factory: str, task: str
) -> None:
    failure = run(factory, "low_shot_finetune" if task == "low" else task).failure
    assert failure is not None
    assert "a copy of it would run the original" in failure.message


@pytest.mark.parametrize("factory", ["uncopyable", "weight_normed", "scripted", "lazy"])
def test_a_new_module_need_not_be_copied(run: Callable[..., Result], factory: str) -> None:
    assert scores(run(factory))["train_loss"] > 0


def test_a_quantised_module_has_a_digest(run: Callable[..., Result]) -> None:
    assert scores(run("quantised", "knn"))["top1"] > 0


@pytest.mark.parametrize("factory", ["one_row", "tokens", "complex_features"])
def test_features_are_one_real_row_an_image(run: Callable[..., Result], factory: str) -> None:
    failure = run(factory, "knn").failure
    assert failure is not None
    assert failure.kind == "backbone"
    assert "gives no features: two images came out as a tensor of shape" in failure.message


def test_a_backbone_without_parameters_says_so(run: Callable[..., Result]) -> None:
    told = "the backbone has no parameters, so only the head was trained"
    assert told in run("listed").remarks
    assert told not in run("listed", "knn").remarks


def test_a_backbone_that_freezes_itself_again_is_refused(run: Callable[..., Result]) -> None:
    failure = run("refrozen").failure
    assert failure is not None
    assert "freezes every parameter again" in failure.message
    remarks = run("half_refrozen").remarks
    assert any("froze 2 parameters again, which were not trained" in text for text in remarks)


def test_what_a_factory_froze_is_trained_and_told(run: Callable[..., Result]) -> None:
    free, frozen = run("fresh"), run("frozen")
    assert scores(frozen) == scores(free)
    (remark,) = (remark for remark in frozen.remarks if "requires_grad" in remark)
    assert "4 parameters (100.0% of the weights" in remark
    assert "were unfrozen" in remark
    assert not [remark for remark in free.remarks if "requires_grad" in remark]


def test_what_a_factory_froze_can_stay_so(run: Callable[..., Result], catalog: Catalog) -> None:
    kept = run("frozen,keep_frozen=true")
    assert scores(kept) != scores(run("frozen"))
    assert any("stayed so" in remark for remark in kept.remarks)
    entries = [
        parse_backbone(f"{FACTORIES}:frozen{option}", catalog)
        for option in ("", ",keep_frozen=true", ",keep_frozen=false")
    ]
    assert entries[0].identity == entries[2].identity != entries[1].identity


def test_frozen_tasks_say_nothing_of_training(run: Callable[..., Result]) -> None:
    assert not [text for text in run("frozen", "knn").remarks if "requires_grad" in text]


def test_a_backbone_that_no_gradient_reaches_is_refused(run: Callable[..., Result]) -> None:
    failure = run("detached").failure
    assert failure is not None
    assert "only the head would be trained" in failure.message
    assert run("detached", "knn").failure is None


def test_weights_that_no_gradient_reaches_are_named(run: Callable[..., Result]) -> None:
    remarks = run("half_detached").remarks
    assert any(
        text == "no gradient reaches 2 parameters of the backbone: trunk.weight, trunk.bias"
        for text in remarks
    ), remarks


def test_what_timm_freezes_stays_so(catalog: Catalog) -> None:
    import timm

    module = timm.create_model("test_vit", pretrained=False, num_classes=0)
    module.pos_embed.requires_grad_(False)
    entry = parse_backbone("timm:test_vit,pretrained=false", catalog)
    from bob.backbones.trainable import unfreeze

    (remark,) = unfreeze(entry, module)
    assert "frozen by timm" in remark
    assert not module.pos_embed.requires_grad
    assert build_backbone(entry, image_size=None).training_remarks == ()
