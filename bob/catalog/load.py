"""Catalog files → one validated catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bob.catalog.overrides import resolve
from bob.catalog.schema import BackboneEntry, CatalogFile, DatasetEntry, ScaleEntry, TaskPlan
from bob.catalog.yaml_file import YamlFile
from bob.errors import BobError, unknown
from bob.protocols import PROTOCOLS
from bob.record import Record

BUILTIN = tuple(sorted(Path(__file__).parent.glob("*.yaml")))

_Entry = TypeVar("_Entry", bound=BaseModel)


@dataclass(frozen=True)
class Catalog:
    """Every known backbone, dataset and scale, by key."""

    backbones: Mapping[str, BackboneEntry] = field(default_factory=dict)
    datasets: Mapping[str, DatasetEntry] = field(default_factory=dict)
    scales: Mapping[str, ScaleEntry] = field(default_factory=dict)

    def backbone(self, key: str) -> BackboneEntry:
        """The entry of a backbone; an unknown key raises ``BobError`` with the nearest ones."""
        if key in self.backbones:
            return self.backbones[key]
        hint = "For one outside the catalog write timm:NAME, package.module:factory or a file."
        raise unknown("backbone", key, self.backbones, hint=hint)

    def dataset(self, key: str) -> DatasetEntry:
        """The entry of a dataset; an unknown key raises ``BobError`` with the nearest ones."""
        if key in self.datasets:
            return self.datasets[key]
        raise unknown("dataset", key, self.datasets)

    def scale(self, key: str) -> ScaleEntry:
        """The entry of a scale; an unknown key raises ``BobError`` with the nearest ones."""
        if key in self.scales:
            return self.scales[key]
        raise unknown("scale", key, self.scales, hint="A scale is declared in a catalog file.")

    def with_backbones(self, entries: Iterable[BackboneEntry]) -> Catalog:
        """This catalog and further backbones; a key that is taken raises ``BobError``."""
        merged = dict(self.backbones)
        for entry in entries:
            if entry.key in merged and merged[entry.key] != entry:
                raise BobError(
                    f"Backbone key {entry.key!r} is taken by another entry; give it another key "
                    "(name=... on the command line)."
                )
            merged[entry.key] = entry
        return replace(self, backbones=merged)


def load_catalog(extra: Iterable[Path] = ()) -> Catalog:
    """Read the built-in catalog and further files of the same form.

    Raises:
        BobError: A file is malformed (with file and line), names an unknown dataset or task, or
            declares a key that another file declares.
    """
    catalog = Catalog()
    origin: dict[tuple[str, str], Path] = {}
    files = [YamlFile(path) for path in (*BUILTIN, *extra)]
    for file in files:
        catalog = _merge(catalog, file, origin)
    for file in files:
        _check_names(catalog, file)
    return catalog


def _merge(catalog: Catalog, file: YamlFile, origin: dict[tuple[str, str], Path]) -> Catalog:
    try:
        top = CatalogFile.model_validate(file.data)
    except ValidationError as error:
        raise file.invalid((), error) from None
    parts: dict[str, dict[str, Any]] = {}
    kinds: tuple[tuple[str, type[Record]], ...] = (
        ("backbones", BackboneEntry), ("datasets", DatasetEntry), ("scales", ScaleEntry),
    )  # fmt: skip
    for kind, model in kinds:
        merged = dict(getattr(catalog, kind))
        for key, data in getattr(top, kind).items():
            taken = origin.get((kind, key))
            if taken is not None:
                raise file.error((kind, key), f"already declared in {taken}")
            origin[kind, key] = file.path
            merged[key] = _entry(model, key, _rooted(data, file.path.parent), file, (kind, key))
        parts[kind] = merged
    return Catalog(**parts)


def _entry(
    model: type[_Entry], key: str, data: dict[str, Any], file: YamlFile, keys: tuple[str, str]
) -> _Entry:
    try:
        return model.model_validate({"key": key, **data})
    except ValidationError as error:
        raise file.invalid(keys, error) from None


def _rooted(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    weights = data.get("weights")
    if not isinstance(weights, dict) or not isinstance(weights.get("file"), str):
        return data
    return {**data, "weights": {**weights, "file": str((folder / weights["file"]).resolve())}}


def _check_names(catalog: Catalog, file: YamlFile) -> None:
    """Names that point from one entry to another, and the recipes of a scale."""
    for key, data in (file.data.get("backbones") or {}).items():
        for index, scale in enumerate(data.get("scales") or ()):
            if scale not in catalog.scales:
                message = str(unknown("scale", scale, catalog.scales))
                raise file.error(("backbones", key, "scales", index), message)
        for index, task in enumerate(data.get("tasks") or ()):
            if task not in PROTOCOLS:
                message = str(unknown("task", task, PROTOCOLS))
                raise file.error(("backbones", key, "tasks", index), message)
    for scale in file.data.get("scales") or {}:
        for task, plan in catalog.scales[scale].tasks.items():
            keys = ("scales", scale, "tasks", task)
            if task not in PROTOCOLS:
                raise file.error(keys, str(unknown("task", task, PROTOCOLS)))
            for index, dataset in enumerate(plan.datasets):
                if dataset not in catalog.datasets:
                    message = str(unknown("dataset", dataset, catalog.datasets))
                    raise file.error((*keys, "datasets", index), message)
                kind = catalog.datasets[dataset].kind
                if not PROTOCOLS[task].takes(kind):
                    fitting = [
                        key
                        for key, entry in catalog.datasets.items()
                        if PROTOCOLS[task].takes(entry.kind)
                    ]
                    message = f"dataset {dataset!r} is of kind {kind}; {task} runs on " + (
                        ", ".join(sorted(fitting)) or f"datasets of kind {PROTOCOLS[task].data}"
                    )
                    raise file.error((*keys, "datasets", index), message)
            _check_recipe(file, keys, PROTOCOLS[task].recipe, plan.recipe, ("recipe",))
            if plan.grid is not None:
                _check_grid(file, keys, PROTOCOLS[task].recipe, {**plan.recipe, "grid": plan.grid})
            _check_levels(file, keys, catalog, plan)


def _check_levels(
    file: YamlFile, keys: tuple[str, str, str, str], catalog: Catalog, plan: TaskPlan
) -> None:
    """Each level of a task's recipe, over the level that all start from."""
    model = PROTOCOLS[keys[-1]].recipe
    for family in plan.families:
        _check_recipe(file, keys, model, resolve(plan, family=family), ("families", family))
    for dataset in plan.by_dataset:
        if dataset not in plan.datasets:
            message = str(unknown("dataset", dataset, plan.datasets))
            raise file.error((*keys, "by_dataset", dataset), message)
        _check_recipe(file, keys, model, resolve(plan, dataset=dataset), ("by_dataset", dataset))
    for backbone in plan.by_backbone:
        if backbone not in catalog.backbones:
            message = str(unknown("backbone", backbone, catalog.backbones))
            raise file.error((*keys, "by_backbone", backbone), message)
        merged = resolve(plan, backbone=backbone)
        _check_recipe(file, keys, model, merged, ("by_backbone", backbone))
    for engine in plan.engines:
        merged = resolve(plan, default_engine=engine, engine=engine)
        _check_recipe(file, keys, model, merged, ("engines", engine))


def _check_grid(
    file: YamlFile, keys: tuple[str, ...], model: type[Record], recipe: dict[str, Any]
) -> None:
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
    keys: tuple[str, ...],
    model: type[Record],
    recipe: dict[str, Any],
    inner: tuple[str, ...],
) -> None:
    try:
        model.model_validate(recipe)
    except ValidationError as error:
        raise file.invalid((*keys, *inner), error) from None
