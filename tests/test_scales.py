"""The scales lite and full: the paper's matrix, its recipes, and what fits an hour."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from bob.catalog import Catalog, load_catalog
from bob.cost import Speeds, estimate, total
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.finetune_multilabel import MultilabelRecipe


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_full_is_the_papers_matrix(catalog: Catalog) -> None:
    plan = Plan(catalog, Selection(scale="full"))
    cases = plan.all_cases()
    ran = {case.backbone.key for case in cases}
    zoo = {key for key, entry in catalog.backbones.items() if "full" in entry.scales}
    assert ran == zoo
    assert {key for key, entry in catalog.backbones.items() if entry.paper} <= ran
    per_backbone = Counter(case.backbone.key for case in cases)
    settings = sum(len(task.datasets) for task in plan.scale.tasks.values())
    assert per_backbone["convnext_base_in21k"] == settings
    assert {case.task for case in cases if case.backbone.key == "sam_vit_base"} == {
        "detection",
        "detection_frozen",
        "ood_detection",
    }
    assert len({case.id for case in cases}) == len(cases)


def test_full_collects_quickly_without_anything_heavy() -> None:
    command = [sys.executable, "-m", "pytest", "--pyargs", "suites", "--collect-only", "-q"]
    done = subprocess.run([*command, "--scale", "full"], capture_output=True, text=True, check=True)
    matched = re.search(r"(\d+) tests collected in ([\d.]+)s", done.stdout)
    assert matched is not None, done.stdout[-500:]
    assert int(matched.group(1)) > 3000
    # 2 s on two idle cores; a busy machine may take a few times as long
    assert float(matched.group(2)) < 15


def recipe(catalog: Catalog, scale: str, task: str, name: str, dataset: str) -> object:
    plan = Plan(catalog, Selection(scale=scale, backbones=(name,)))
    return next(case.recipe for case in plan.cases(task) if case.dataset.key == dataset)


def test_full_recipes_are_the_papers(catalog: Catalog) -> None:
    usual = recipe(catalog, "full", "finetune", "vit_base_in21k", "cifar100")
    assert usual == FinetuneRecipe()
    assert isinstance(usual, FinetuneRecipe)
    assert (usual.epochs, usual.batch_size, usual.lr, usual.weight_decay) == (100, 1024, 1e-3, 0.05)
    assert usual.image_size is None
    few = recipe(catalog, "full", "finetune", "vit_base_in21k", "imagenet_1pct")
    assert isinstance(few, FinetuneRecipe)
    assert few.rand_augment is None
    assert (few.mixup, few.cutmix, few.random_erase) == (0.8, 1.0, 0.25)
    large = recipe(catalog, "full", "finetune", "mae_vit_large", "cifar100")
    assert isinstance(large, FinetuneRecipe)
    assert large.epochs == 50
    chest = [
        recipe(catalog, "full", "finetune_multilabel", name, "chexpert")
        for name in ("mae_vit_base", "convnext_base_in1k")
    ]
    assert [
        chest_recipe.layer_decay
        for chest_recipe in chest
        if isinstance(chest_recipe, MultilabelRecipe)
    ] == [0.75, 1.0]
    plain = recipe(catalog, "full", "detection", "mae_vit_base", "coco")
    assert isinstance(plain, DetectionRecipe)
    assert (plain.augmentation, plain.head_norm, plain.drop_path) == ("lsj", "LN", 0.1)
    rates = {
        name: recipe(catalog, "full", "detection", name, "coco").drop_path
        for name in ("convnext_tiny_in1k", "convnext_base_in1k", "swinv2_base_in1k")
    }
    assert list(rates.values()) == [0.4, 0.7, 0.5]


def test_lite_fits_an_hour(catalog: Catalog) -> None:
    speeds = Speeds("RTX 4090")
    for name in (
        "vit_base_in21k",
        "convnext_base_in1k",
        "swinv2_base_in1k",
        "clip_vit_base_laion2b",
    ):
        cases = Plan(catalog, Selection(scale="lite", backbones=(name,))).all_cases()
        whole = total([estimate(case, speeds) for case in cases], "RTX 4090")
        assert 0.05 < whole.hours < 1.0, (name, whole.hours)
