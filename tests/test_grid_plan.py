"""Where a grid is given, what it changes in a plan, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case
from bob.catalog import Catalog, load_catalog
from bob.cost import Speeds, estimate
from bob.cost.model import TRAIN
from bob.cost.present import Shelf
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols.grid import Grid, RateGrid
from bob.report.text import repeat_command
from tests.grid_parts import with_grid


def test_cases_without_a_grid_are_what_they_were(catalog: Catalog, tmp_path: Path) -> None:
    """The measured references were recorded before there were grids."""
    shelf = Shelf(tmp_path, tmp_path)
    for case in Plan(catalog, Selection()).all_cases():
        assert "grid" not in case.recipe.model_dump(mode="json")
        assert shelf.look(case).reference == "yes", case.name


def test_a_grid_changes_protocol_and_name(catalog: Catalog) -> None:
    searched = {"finetune", "low_shot_finetune", "detection", "detection_frozen"}
    plain, grid = (Plan(catalog, Selection(grid=on)).all_cases() for on in (False, True))
    for fixed, chosen in zip(plain, grid, strict=True):
        assert fixed.task == chosen.task
        if fixed.task in searched:
            assert fixed.protocol != chosen.protocol
            assert fixed.id != chosen.id
            assert chosen.name == f"{fixed.name}-grid"
            assert chosen.setting.startswith(fixed.setting)
            assert chosen.setting != fixed.setting
            assert chosen.engine == fixed.engine
        else:
            assert fixed == chosen


def test_settings_are_every_combination() -> None:
    grid = Grid(lr=(1e-3, 1e-4), weight_decay=(0.0, 0.05))
    assert [(setting["lr"], setting["weight_decay"]) for setting in grid.settings()] == [
        (1e-3, 0.0), (1e-3, 0.05), (1e-4, 0.0), (1e-4, 0.05),
    ]  # fmt: skip
    assert RateGrid(lr=(8e-5, 3e-4)).settings() == ({"lr": 8e-5}, {"lr": 3e-4})


def test_the_plan_counts_the_grid(tiny_case: Case) -> None:
    case = with_grid(tiny_case, lr=(0.01, 0.1), weight_decay=(0.0, 0.05))
    plain, grid = (
        estimate(variant, Speeds()).own_hours
        for variant in (replace(case, recipe=tiny_case.recipe), case)
    )
    assert plain
    assert grid
    epochs, train, test = 2, 1200, 597
    without = TRAIN * epochs * train + epochs * test
    added = 4 * (TRAIN * epochs * train * 0.9 + train * 0.1)
    assert grid / plain == pytest.approx((without + added) / without)


GRID_SCALE = """
scales:
  searched:
    tasks:
      {task}:
        datasets: [{dataset}]
        grid: {grid}
"""


@pytest.mark.parametrize(
    ("task", "dataset", "grid", "message"),
    [
        (
            "knn",
            "digits",
            "{lr: [0.1]}",
            "only finetune, finetune_multilabel, low_shot_finetune",
        ),
        ("finetune", "digits", "{lr: [0.1]}", "weight_decay: Field required"),
        ("finetune", "digits", "{lr: [0.1, 0.1], weight_decay: [0]}", "names a value twice"),
        ("finetune", "digits", "{lr: [], weight_decay: [0]}", "at least 1 item"),
        ("detection", "digit_scenes", "{lr: [0.1], weight_decay: [0]}", "weight_decay"),
        ("finetune", "digits", "{lr: [-1], weight_decay: [0]}", "greater than 0"),
    ],
)
def test_bad_grids_name_their_line(
    tmp_path: Path, task: str, dataset: str, grid: str, message: str
) -> None:
    file = tmp_path / "scale.yaml"
    file.write_text(GRID_SCALE.format(task=task, dataset=dataset, grid=grid))
    with pytest.raises(BobError, match=message) as caught:
        load_catalog([file])
    assert f"{file}:" in str(caught.value)


def test_a_grid_in_the_recipe_always_applies(tmp_path: Path) -> None:
    file = tmp_path / "scale.yaml"
    text = GRID_SCALE.format(task="finetune", dataset="digits", grid="null")
    recipe = "        recipe: {grid: {lr: [0.1], weight_decay: [0.05]}}\n"
    file.write_text(text + recipe)
    catalog = load_catalog([file])
    (case,) = Plan(catalog, Selection(scale="searched", backbones=("vit_micro_glyphs",))).cases(
        "finetune"
    )
    assert case.name == "vit_micro_glyphs-digits-grid"


def test_pytest_needs_a_scale_with_a_grid(project: pytest.Pytester) -> None:
    done = project.runpytest("--grid")
    done.stderr.fnmatch_lines(["*--grid: no task of scale 'tiny' has a grid*"])
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_pytest_collects_the_grid(project: pytest.Pytester) -> None:
    done = project.runpytest("--scale", "smoke", "--grid", "--collect-only", "-q")
    done.stdout.fnmatch_lines(["*test_finetune[[]vit_micro_glyphs-digits-grid[]]"])


def test_the_repeat_command_has_the_option() -> None:
    command = repeat_command(["x.py"], ["--grid"], backbones=())
    assert command == "pytest x.py --grid"
