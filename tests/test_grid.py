"""Choosing learning rate and weight decay on held-out train images."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bob.backbones import build_backbone
from bob.case import Case, Progress
from bob.catalog import Catalog
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.datasets import ClassificationData, Split, load_dataset
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.grid import Grid, RateGrid
from bob.protocols.low_shot_finetune import LowShotFinetuneRecipe
from bob.run import run_case
from bob.tasks import finetune
from bob.tasks._classifying import held_out_scores
from bob.training.data import normalised
from bob.training.search import choose, same_randomness, split_for_choice
from tests.grid_parts import DIVERGES, QUIET, with_grid
from tests.jobs import ignore, make_job


def test_the_choice_is_made_on_a_part_of_train(catalog: Catalog) -> None:
    data = load_dataset(catalog.dataset("digits"))
    assert isinstance(data, ClassificationData)
    grid = Grid(lr=(1.0,), weight_decay=(0.0,))
    fit, choice = split_for_choice(data.train.targets, grid)
    assert sorted([*fit, *choice]) == list(range(len(data.train)))
    assert len(choice) == 120
    shares = np.bincount(data.train.targets[choice], minlength=10)
    assert shares.max() - shares.min() <= 2
    again = split_for_choice(data.train.targets.clone(), grid)
    assert all(
        (drawn == redrawn).all() for drawn, redrawn in zip((fit, choice), again, strict=True)
    )
    with pytest.raises(BobError, match="no class has two"):
        split_for_choice(torch.arange(5), grid)


def test_tried_settings_learn_from_one_part_and_are_scored_on_the_other(
    tiny_case: Case, catalog: Catalog
) -> None:
    data = load_dataset(catalog.dataset("digits"))
    assert isinstance(data, ClassificationData)
    grid = Grid(lr=(0.05,), weight_decay=(0.05,))
    backbone = build_backbone(tiny_case.backbone, image_size=32)
    shown: dict[bool, set[bytes]] = {True: set(), False: set()}

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        shown[module.training] |= {row.numpy().tobytes() for row in inputs[0]}

    backbone.module.register_forward_pre_hook(look)
    recipe = tiny_case.recipe
    assert isinstance(recipe, FinetuneRecipe)
    job = make_job(tiny_case, backbone, data)
    held_out_scores(replace(job, recipe=recipe.model_copy(update={"batch_size": 90})), grid)
    pixels = normalised(data.train.images, backbone)
    fit, choice = split_for_choice(data.train.targets, grid)
    assert shown[True] == {pixels[row].numpy().tobytes() for row in fit}
    assert shown[False] == {pixels[row].numpy().tobytes() for row in choice}


def test_validation_decides_and_not_test(tiny_case: Case, catalog: Catalog) -> None:
    """Test labels are all wrong, so that on test the setting that learns nothing is better."""
    data = load_dataset(catalog.dataset("digits"))
    assert isinstance(data, ClassificationData)
    wrong = replace(data, test=Split(data.test.images, (data.test.targets + 1) % 10))
    rates = (1e-6, 0.05)
    case = with_grid(tiny_case, lr=rates, weight_decay=(0.05,))

    def run(case: Case) -> Any:
        torch.manual_seed(0)
        backbone = build_backbone(case.backbone, image_size=32)
        return finetune.run(make_job(case, backbone, wrong))

    found = run(case)
    idle, learning = (
        run(replace(case, recipe=tiny_case.recipe.model_copy(update={"lr": rate})))
        for rate in rates
    )
    assert idle.metrics["top1"] > learning.metrics["top1"]
    (chosen,) = [trial for trial in found.trials if trial.chosen]
    assert chosen.params["lr"] == 0.05
    assert chosen.metrics["val_top1"] > 0.5
    assert found.metrics["top1"] == learning.metrics["top1"]


def test_the_score_is_that_of_the_chosen_setting_alone(tiny_case: Case) -> None:
    case = with_grid(tiny_case, lr=(1e-6, 0.05), weight_decay=(0.0, 0.05))
    found = run_case(case, QUIET)
    assert found.failure is None
    assert [trial.chosen for trial in found.trials].count(True) == 1
    (chosen,) = [trial for trial in found.trials if trial.chosen]
    best = max(trial.metrics["val_top1"] for trial in found.trials)
    assert chosen.metrics["val_top1"] == best
    alone = replace(case, recipe=tiny_case.recipe.model_copy(update=dict(chosen.params)))
    metrics = run_case(alone, QUIET).metrics
    for name in ("top1", "test_loss", "train_loss"):
        assert found.metrics[name] == metrics[name]
    assert found.metrics["grid_lr"] == 0.05
    assert b"val_top1" in found.files["grid.csv"]
    assert len(found.files["grid.csv"].splitlines()) == 5
    assert pickle.loads(pickle.dumps(found)).trials == found.trials


def test_equal_accuracy_is_decided_by_loss_and_then_by_order() -> None:
    recipe = FinetuneRecipe()
    grid = RateGrid(lr=(1.0, 2.0, 3.0))
    losses = {1.0: 0.5, 2.0: 0.4, 3.0: 0.4}

    def attempt(tried: FinetuneRecipe, checkpoint: CaseCheckpoint) -> dict[str, float]:
        assert tried.grid is None
        return {"val_top1": 0.9, "val_loss": losses[tried.lr]}

    best, trials = choose(recipe, grid, attempt, score="val_top1", loss="val_loss", emit=ignore)
    assert best.lr == 2.0
    assert [trial.chosen for trial in trials] == [False, True, False]


def test_held_out_metrics_that_are_not_finite_are_no_choice() -> None:
    def attempt(tried: FinetuneRecipe, checkpoint: CaseCheckpoint) -> dict[str, float]:
        return {"val_top1": 0.1 if tried.lr < 2 else float("nan")}

    grid = RateGrid(lr=(1.0, 2.0))
    best, trials = choose(FinetuneRecipe(), grid, attempt, score="val_top1", emit=ignore)
    assert best.lr == 1.0
    assert "not finite" in trials[1].failure


def test_attempts_leave_the_random_generators_alone() -> None:
    import random

    def draws() -> tuple[float, ...]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draws()
    seed()
    with same_randomness():
        assert draws() == expected
    assert draws() == expected


def test_each_low_shot_draw_chooses_for_itself(tiny_case: Case) -> None:
    recipe = LowShotFinetuneRecipe.model_validate(
        {
            **tiny_case.recipe.model_dump(),
            "fractions": (0.05, 0.1),
            "draws": 2,
            "batch_size": 20,
            "epochs": 3,
        }
    )
    case = with_grid(
        replace(tiny_case, task="low_shot_finetune", recipe=recipe),
        lr=(1e-6, 0.05),
        weight_decay=(0.05,),
    )
    found = run_case(case, QUIET)
    assert found.failure is None
    groups = [f"{share} draw {draw}" for share in ("5pct", "10pct") for draw in (0, 1)]
    assert [trial.group for trial in found.trials] == [name for name in groups for _ in range(2)]
    for name in groups:
        own = [trial for trial in found.trials if trial.group == name]
        assert [trial.chosen for trial in own].count(True) == 1
        best = min(own, key=lambda trial: (-trial.metrics["val_top1"], trial.metrics["val_loss"]))
        assert best.chosen
    fitted = [trial.metrics["val_temperature"] for trial in found.trials if trial.chosen]
    assert found.metrics["temperature"] == pytest.approx(sum(fitted) / 4)
    assert "ece_scaled" in found.metrics
    assert len(found.files["grid.csv"].splitlines()) == 1 + len(found.trials)


def test_detection_chooses_a_learning_rate(catalog: Catalog) -> None:
    plan = Plan(catalog, Selection(backbones=("resnet_micro_glyphs",)))
    (case,) = plan.cases("detection")
    recipe = case.recipe
    assert isinstance(recipe, DetectionRecipe)
    changes = {"epochs": 1, "grid": RateGrid(lr=(2e-3, DIVERGES), holdout=0.2)}
    case = replace(case, recipe=recipe.model_copy(update=changes))
    seen: list[Progress] = []
    found = run_case(case, QUIET, seen.append)
    assert found.failure is None, found.failure
    good, bad = found.trials
    assert good.chosen
    assert 0 <= good.metrics["val_box_ap"] <= 1
    assert bad.failure
    assert found.metrics["grid_lr"] == 2e-3
    assert [progress.phase for progress in seen].count("epoch") == 1


def test_a_detection_split_is_parted_by_its_rarest_class(catalog: Catalog) -> None:
    data: Any = load_dataset(catalog.dataset("digit_scenes"))
    strata = data.train.strata()
    assert strata.shape == (256,)
    for index, label in enumerate(strata.tolist()):
        assert label in data.train.sample(index).target.labels
    fit, choice = split_for_choice(strata, RateGrid(lr=(1.0,), holdout=0.1))
    part, rest = data.train.part(fit.tolist()), data.train.part(choice.tolist())
    assert (len(part), len(rest)) == (230, 26)
    assert not set(part.image_ids) & set(rest.image_ids)
    assert part.class_names == data.train.class_names
    for position, index in enumerate(choice.tolist()):
        held_out, original = rest.sample(position), data.train.sample(index)
        assert torch.equal(held_out.image, original.image)
        assert torch.equal(held_out.target.boxes, original.target.boxes)
