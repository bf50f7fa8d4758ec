"""Names that point from one catalog entry to another, and the recipes and margins of a scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bob.catalog.overrides import resolve
from bob.catalog.schema import BackboneEntry, DatasetEntry, ScaleEntry, TaskPlan
from bob.catalog.yaml_file import YamlFile
from bob.errors import unknown
from bob.protocols import PROTOCOLS
from bob.record import Record

_Keys = tuple[str, ...]


def check_names(
    file: YamlFile,
    *,
    backbones: Mapping[str, BackboneEntry],
    datasets: Mapping[str, DatasetEntry],
    scales: Mapping[str, ScaleEntry],
) -> None:
    """Check what a catalog file names against everything that is known.

    Raises:
        BobError: A name is not known or does not fit; it tells file, line and the nearest names.
    """
    for key, data in (file.data.get("backbones") or {}).items():
        for part, known in (("scales", scales), ("tasks", PROTOCOLS)):
            for index, name in enumerate(data.get(part) or ()):
                if name not in known:
                    message = str(unknown(part.removesuffix("s"), name, known))
                    raise file.error(("backbones", key, part, index), message)
    for task, margins in (file.data.get("margins") or {}).items():
        _check_task(file, ("margins", task), task)
        _check_margins(file, ("margins", task), task, margins)
    for scale in file.data.get("scales") or {}:
        for task, plan in scales[scale].tasks.items():
            keys = ("scales", scale, "tasks", task)
            _check_task(file, keys, task)
            _check_margins(file, (*keys, "margins"), task, plan.margins)
            _check_datasets(file, keys, plan, datasets)
            _check_recipes(file, keys, plan, backbones)


def _check_task(file: YamlFile, keys: _Keys, task: str) -> None:
    if task not in PROTOCOLS:
        raise file.error(keys, str(unknown("task", task, PROTOCOLS)))


def _check_datasets(
    file: YamlFile, keys: _Keys, plan: TaskPlan, datasets: Mapping[str, DatasetEntry]
) -> None:
    task, spec = keys[-1], PROTOCOLS[keys[-1]]
    for index, dataset in enumerate(plan.datasets):
        if dataset not in datasets:
            message = str(unknown("dataset", dataset, datasets))
            raise file.error((*keys, "datasets", index), message)
        kind = datasets[dataset].kind
        if not spec.takes(kind):
            fitting = [key for key, entry in datasets.items() if spec.takes(entry.kind)]
            message = f"dataset {dataset!r} is of kind {kind}; {task} runs on " + (
                ", ".join(sorted(fitting)) or f"datasets of kind {spec.data}"
            )
            raise file.error((*keys, "datasets", index), message)


def _check_recipes(
    file: YamlFile, keys: _Keys, plan: TaskPlan, backbones: Mapping[str, BackboneEntry]
) -> None:
    model = PROTOCOLS[keys[-1]].recipe
    _check_recipe(file, keys, model, plan.recipe, ("recipe",))
    if plan.grid is not None:
        _check_grid(file, keys, model, {**plan.recipe, "grid": plan.grid})
    for family in plan.families:
        _check_recipe(file, keys, model, resolve(plan, family=family), ("families", family))
    for dataset in plan.by_dataset:
        if dataset not in plan.datasets:
            message = str(unknown("dataset", dataset, plan.datasets))
            raise file.error((*keys, "by_dataset", dataset), message)
        _check_recipe(file, keys, model, resolve(plan, dataset=dataset), ("by_dataset", dataset))
    for backbone in plan.by_backbone:
        if backbone not in backbones:
            message = str(unknown("backbone", backbone, backbones))
            raise file.error((*keys, "by_backbone", backbone), message)
        merged = resolve(plan, backbone=backbone)
        _check_recipe(file, keys, model, merged, ("by_backbone", backbone))
    for engine in plan.engines:
        merged = resolve(plan, default_engine=engine, engine=engine)
        _check_recipe(file, keys, model, merged, ("engines", engine))


def _check_margins(file: YamlFile, keys: _Keys, task: str, margins: Mapping[str, float]) -> None:
    names = [judged.name for judged in PROTOCOLS[task].judged]
    for name in margins:
        if name not in names:
            raise file.error((*keys, name), str(unknown(f"judged metric of {task}", name, names)))


def _check_grid(file: YamlFile, keys: _Keys, model: type[Record], recipe: dict[str, Any]) -> None:
    if "grid" not in model.model_fields:
        searchable = [
            name for name, spec in PROTOCOLS.items() if "grid" in spec.recipe.model_fields
        ]
        raise file.error((*keys, "grid"), f"only {', '.join(searchable)} can have a grid")
    try:
        model.model_validate(recipe)
    except ValidationError as error:
        raise file.invalid(keys, error) from None


def _check_recipe(
    file: YamlFile,
    keys: _Keys,
    model: type[Record],
    recipe: dict[str, Any],
    inner: _Keys,
) -> None:
    try:
        model.model_validate(recipe)
    except ValidationError as error:
        raise file.invalid((*keys, *inner), error) from None
