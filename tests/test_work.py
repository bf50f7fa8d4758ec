"""What every protocol says it costs: images through the backbone, counted again by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bob.case import Case
from bob.catalog import load_catalog
from bob.cost.work import work_of
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS, ProtocolSpec, Sizes, Work
from bob.protocols.detection import ENGINES
from bob.protocols.knn import KnnRecipe, work

FROZEN = ("knn", "linear_probe", "low_shot")


def planned(scale: str, **selection: Any) -> list[Case]:
    plan = Plan(load_catalog(), Selection(scale=scale, **selection))
    return list(plan.all_cases())


def smoke(task: str, dataset: str = "", **selection: Any) -> Work:
    """The work of a smoke case of the micro Swin."""
    (case,) = (
        case
        for case in planned("smoke", backbones=("swin_micro_glyphs",), **selection)
        if case.task == task and dataset in case.dataset.key
    )
    found = work_of(case)
    assert found is not None
    return found


def test_fine_tuning() -> None:
    found = smoke("finetune")  # 4 epochs over 1200 and 597 digits of 32 pixels
    assert (found.side, found.train, found.forward, found.batch) == (32, 4800, 2388, 24)
    assert not found.passes
    # 6 settings besides, each on nine tenths of the train split and scored once on the rest
    searched = smoke("finetune", grid=True)
    assert searched.train == pytest.approx(4800 + 6 * 4320)
    assert searched.forward == pytest.approx(2388 + 6 * 120)


def test_low_shot_fine_tuning() -> None:
    # 5 draws of 12 images and of 120; 40 updates of 12 images at least, 8 epochs at least
    found = smoke("low_shot_finetune")
    assert found.train == 5 * (40 * 12 + 8 * 120)
    assert found.forward == 5 * 2 * 597
    assert (found.side, found.batch) == (32, 12)


@pytest.mark.parametrize("task", FROZEN)
def test_frozen_protocols_pass_once(task: str) -> None:
    found = smoke(task)
    assert found.passes == {"train": 1200, "test": 597}
    assert (found.side, found.train, found.forward, found.batch) == (32, 0, 0, 0)
    # DINOv2's 45 strengths, the best with its neighbours, and the choice twice; five draws of three
    # and of two settings
    assert found.fits == {"knn": 0, "linear_probe": 50, "low_shot": 25}[task]


def test_other_passes() -> None:
    assert smoke("ood", "digits_c").passes == {"train": 1200, "test": 597, "shifts": 9750}
    assert smoke("ood", "font").passes == {"train": 1200, "test": 360, "shifts": 917}
    assert smoke("retrieval").passes == {"database": 1200, "queries": 240}
    views = smoke("linear_probe_paper")
    assert (views.forward, views.passes) == (6 * 1200, {"test": 597})


@pytest.mark.parametrize("task", ["detection", "detection_frozen", "ood_detection"])
def test_detection_of_small_scenes(task: str) -> None:
    found = smoke(task)
    recipe: Any = next(case.recipe for case in planned("smoke") if case.task == task)
    assert (found.side, found.test_side) == (64, 64)
    scenes = recipe.epochs * 256
    assert (found.train, found.forward, found.batch) == (scenes, 160, recipe.batch_size)
    assert (found.heads, found.frozen) == (2.1, task == "detection_frozen")


def test_detection_of_photographs() -> None:
    (case,) = (
        case
        for case in planned("full", backbones=("timm:resnet50.a1_in1k",), engine="detectron2")
        if case.setting == "detection/coco/detectron2"
    )
    found = work_of(case)
    assert found is not None
    # short edges of 480 to 800 in steps of 32 on 4:3, area as a square
    edges = range(480, 801, 32)
    assert found.side == pytest.approx(sum((4 / 3) ** 0.5 * edge for edge in edges) / len(edges))
    assert found.test_side == pytest.approx((4 / 3) ** 0.5 * 800)
    assert (found.train, found.forward) == (36 * 118_287, 5_000)
    assert (found.batch, found.heads, found.frozen) == (16, 7.8, False)


def test_released_classifiers_read_test_and_shifts() -> None:
    found = [case for case in planned("full") if case.task == "eval_released"]
    found += [
        case
        for case in planned("full", backbones=("timm:resnet50.a1_in1k",))
        if case.task == "eval_released"
    ]
    assert found
    for case in found:
        cost = work_of(case)
        assert cost is not None
        assert cost.forward == case.dataset.test_size + (case.dataset.shift_size or 0)  # type: ignore[operator]
        assert (cost.train, dict(cost.passes)) == (0, {})
        assert cost.side == (case.backbone.image_size or 224)


def counted(case: Case) -> tuple[float, float, dict[str, int]]:
    """Images in updates, forward and by split, from the recipe's own words."""
    recipe, data = case.recipe.model_dump(), case.dataset
    train, test, shifted = data.train_size or 0, data.test_size or 0, data.shift_size or 0
    grid = recipe.get("grid")
    settings = 0
    if grid:
        settings = len(grid["lr"]) * len(grid.get("weight_decay", "1"))
    if case.task == "eval_released":
        return 0, test + shifted, {}
    if case.task in FROZEN:
        return 0, 0, {"train": train, "test": test}
    if case.task == "ood":
        return 0, 0, {"train": train, "test": test, "shifts": shifted}
    if case.task == "retrieval":
        return 0, 0, {"database": train, "queries": test}
    epochs = recipe["epochs"]
    if case.task == "linear_probe_paper":
        return 0, epochs * train, {"test": test}
    if case.task == "low_shot_finetune":
        seen = 0.0
        for fraction in recipe["fractions"]:
            images = max(1, round(fraction * train))
            needed = -(-recipe["least_updates"] // max(1, images // recipe["batch_size"]))
            seen += recipe["draws"] * images * max(epochs, needed)
        read = len(recipe["fractions"]) * recipe["draws"] * test
    elif case.task in ("finetune", "finetune_multilabel"):
        seen, read = epochs * train, epochs * test
    else:
        assert "engine" in recipe
        seen, read = epochs * train, test
    if grid:
        read += settings * seen * grid["holdout"] / epochs
        seen += settings * seen * (1 - grid["holdout"])
    return seen, read, {}


@pytest.mark.parametrize("scale", ["smoke", "lite", "full"])
@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_case_is_counted_alike(scale: str, grid: bool, engine: str) -> None:
    backbones = () if scale == "smoke" else ("timm:resnet50.a1_in1k", "dino_vit_base")
    cases = planned(scale, grid=grid, engine=engine, backbones=backbones)
    seen = set()
    for case in cases:
        found = work_of(case)
        if found is None:
            assert case.dataset.train_size is None or case.dataset.test_size is None
            continue
        seen.add(case.task)
        train, forward, passes = counted(case)
        assert found.train == pytest.approx(train), case.name
        assert found.forward == pytest.approx(forward), case.name
        assert dict(found.passes) == passes, case.name
    assert len(seen) >= 5


def test_a_recipe_of_another_protocol_is_an_error() -> None:
    case = next(case for case in planned("smoke") if case.task == "finetune")
    with pytest.raises(BobError, match="has a KnnRecipe but takes FinetuneRecipe"):
        work_of(replace(case, recipe=KnnRecipe()))


def test_a_protocol_without_a_cost_cannot_be_declared() -> None:
    arguments: dict[str, Any] = {
        "name": "mine", "runner": "mine:run", "recipe": KnnRecipe, "judged": (),
        "description": "of a package",
    }  # fmt: skip
    with pytest.raises(TypeError, match="work"):
        ProtocolSpec(**arguments)
    spec = ProtocolSpec(**arguments, work=work)
    sizes = Sizes(train=3, test=2, side=224, kind="classification")
    assert spec.work(KnnRecipe(), sizes).passes == {"train": 3, "test": 2}


def test_every_protocol_names_its_cost() -> None:
    assert all(callable(spec.work) for spec in PROTOCOLS.values())
