"""Recipe fields of a scale at several levels: the last one counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bob.catalog import TaskPlan, load_catalog
from bob.catalog.overrides import resolve
from bob.errors import BobError
from bob.plan import Plan, Selection

LEVELS: tuple[dict[str, Any], ...] = (
    {"recipe": {"lr": 1e-1, "epochs": 1}},
    {"families": {"swin": {"lr": 1e-2}}},
    {"by_dataset": {"digit_scenes": {"lr": 1e-3}}},
    {"by_backbone": {"swin_micro_glyphs": {"lr": 1e-4}}},
    {"engines": {"torchvision": {"lr": 1e-5}}},
)
"""From the first to the last; every level gives the same field."""

KEYS = {"family": "swin", "dataset": "digit_scenes", "backbone": "swin_micro_glyphs"}


@pytest.mark.parametrize("count", range(1, len(LEVELS) + 1))
def test_each_level_overrides_the_one_before(count: int) -> None:
    parts = {name: value for level in LEVELS[:count] for name, value in level.items()}
    plan = TaskPlan(datasets=("digit_scenes",), **parts)
    fields = resolve(plan, **KEYS, default_engine="torchvision")
    assert fields == {"lr": 10.0**-count, "epochs": 1, "engine": "torchvision"}
    elsewhere = resolve(plan, family="vit", dataset="d", backbone="b", default_engine="detectron2")
    assert elsewhere == {"lr": 0.1, "epochs": 1, "engine": "detectron2"}


@pytest.mark.parametrize("lower", range(len(LEVELS)))
@pytest.mark.parametrize("upper", range(len(LEVELS)))
def test_two_levels_alone_keep_the_order(lower: int, upper: int) -> None:
    if lower >= upper:
        return
    plan = TaskPlan(datasets=("digit_scenes",), **LEVELS[upper], **LEVELS[lower])
    assert resolve(plan, **KEYS, default_engine="torchvision")["lr"] == 10.0 ** -(upper + 1)


def test_the_engine_asked_for_comes_before_that_of_the_recipe_and_the_default() -> None:
    named = TaskPlan(
        datasets=("digit_scenes",),
        recipe={"engine": "torchvision"},
        engines={"torchvision": {"lr": 1.0}, "detectron2": {"lr": 2.0}},
    )
    assert resolve(named, default_engine="detectron2") == {"engine": "torchvision", "lr": 1.0}
    asked = resolve(named, engine="detectron2", default_engine="torchvision")
    assert asked == {"engine": "detectron2", "lr": 2.0}
    assert "engine" not in resolve(TaskPlan(datasets=("digits",)), engine="torchvision")


SCALE = """
scales:
  mine:
    tasks:
      finetune:
        datasets: [digits]
        recipe: {epochs: 1}
        families: {vit: {epochs: 2}, swin: {epochs: 2}}
        by_dataset: {digits: {epochs: 3, batch_size: 32}}
        by_backbone: {vit_micro_glyphs: {epochs: 4}}
"""


def test_a_plan_follows_the_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SCALE)
    names = ("resnet_micro_glyphs", "swin_micro_glyphs", "vit_micro_glyphs")
    cases = Plan(load_catalog([path]), Selection("mine", names)).cases("finetune")
    told = {case.backbone.key: case.recipe.model_dump() for case in cases}
    assert {key: recipe["epochs"] for key, recipe in told.items()} == {
        "resnet_micro_glyphs": 3,
        "swin_micro_glyphs": 3,
        "vit_micro_glyphs": 4,
    }
    assert all(recipe["batch_size"] == 32 for recipe in told.values())


@pytest.mark.parametrize(
    ("level", "line"),
    [
        ("recipe: {epoch: 3}", 7),
        ("families: {vit: {epoch: 3}}", 7),
        ("by_dataset: {digits: {epoch: 3}}", 7),
        ("by_backbone: {vit_micro_glyphs: {epoch: 3}}", 7),
    ],
)
def test_an_unknown_field_names_file_and_key(tmp_path: Path, level: str, line: int) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "scales:\n  mine:\n    tasks:\n      finetune:\n        datasets: [digits]\n"
        f"        margin: 0.1\n        {level}\n"
    )
    with pytest.raises(BobError) as caught:
        load_catalog([path])
    keys = level.replace("}", "").split(": {")[:-1]
    assert (
        f"mine.yaml:{line}: scales.mine.tasks.finetune.{'.'.join(keys)}.epoch: unknown key"
        in str(caught.value)
    )


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("by_dataset: {digit: {epochs: 3}}", "by_dataset.digit: "),
        ("by_backbone: {vit_micro_glyph: {epochs: 3}}", "Did you mean 'vit_micro_glyphs'"),
        ("engines: {torchvision: {epochs: 3}}", "engine"),
    ],
)
def test_an_unknown_key_of_a_level_is_named(tmp_path: Path, level: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "scales:\n  mine:\n    tasks:\n      finetune:\n        datasets: [digits]\n"
        f"        {level}\n"
    )
    with pytest.raises(BobError, match=r"mine\.yaml:6: ") as caught:
        load_catalog([path])
    assert words in str(caught.value)
