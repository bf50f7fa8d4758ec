"""Catalog files → one validated catalog."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bob.catalog.names import check_names
from bob.catalog.schema import (
    UNTRAINED,
    BackboneEntry,
    CatalogFile,
    DatasetEntry,
    ScaleEntry,
    TaskPlan,
)
from bob.catalog.yaml_file import YamlFile
from bob.errors import BobError, unknown
from bob.protocols import PROTOCOLS
from bob.record import Record

BUILTIN = tuple(sorted(Path(__file__).parent.glob("*.yaml")))

_Entry = TypeVar("_Entry", bound=BaseModel)


@dataclass(frozen=True)
class Catalog:
    """Every known backbone, dataset and scale, by key, and margins by protocol and metric."""

    backbones: Mapping[str, BackboneEntry] = field(default_factory=dict)
    datasets: Mapping[str, DatasetEntry] = field(default_factory=dict)
    scales: Mapping[str, ScaleEntry] = field(default_factory=dict)
    margins: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

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

    def margins_of(self, task: str, plan: TaskPlan) -> dict[str, float]:
        """Margins of a protocol by judged metric, with what a scale says of them."""
        own = {} if plan.margin is None else {PROTOCOLS[task].metric: plan.margin}
        return {**self.margins.get(task, {}), **own, **plan.margins}

    def twin_of(self, entry: BackboneEntry) -> str:
        """Key of the same network initialised anew; empty where the catalog has none.

        It is the backbone without weights and pretraining of the same source and arguments, but for
        ``pretrained``. A backbone of no pretraining has no twin.
        """
        if not _trained(entry):
            return ""
        for other in self.backbones.values():
            if not _trained(other) and _network(other) == _network(entry):
                return other.key
        return ""

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


def _trained(entry: BackboneEntry) -> bool:
    """Whether a backbone may have learnt something before."""
    if entry.weights is not None:
        return True
    return entry.pretraining not in UNTRAINED and entry.arguments.get("pretrained") is not False


def _network(entry: BackboneEntry) -> tuple[str, dict[str, Any]]:
    """What a backbone is without its weights: source, without timm's tag, and arguments."""
    source = entry.source.partition(".")[0] if entry.source.startswith("timm:") else entry.source
    return source, {name: value for name, value in entry.arguments.items() if name != "pretrained"}


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
        check_names(
            file, backbones=catalog.backbones, datasets=catalog.datasets, scales=catalog.scales
        )
    return catalog


def _merge(catalog: Catalog, file: YamlFile, origin: dict[tuple[str, str], Path]) -> Catalog:
    try:
        top = CatalogFile.model_validate(file.data)
    except ValidationError as error:
        raise file.invalid((), error) from None
    parts: dict[str, dict[str, Any]] = {"margins": dict(catalog.margins)}
    kinds: tuple[tuple[str, type[Record]], ...] = (
        ("backbones", BackboneEntry), ("datasets", DatasetEntry), ("scales", ScaleEntry),
    )  # fmt: skip
    for kind, model in kinds:
        merged = dict(getattr(catalog, kind))
        for key, data in getattr(top, kind).items():
            _claim(origin, file, kind, key)
            merged[key] = _entry(model, key, _rooted(data, file.path.parent), file, (kind, key))
        parts[kind] = merged
    for task, margins in top.margins.items():
        _claim(origin, file, "margins", task)
        parts["margins"][task] = margins
    return Catalog(**parts)


def _claim(origin: dict[tuple[str, str], Path], file: YamlFile, kind: str, key: str) -> None:
    """Note the file that declares a key; no other may."""
    if (kind, key) in origin:
        hint = "; a scale's task may say otherwise under `margins`" if kind == "margins" else ""
        raise file.error((kind, key), f"already declared in {origin[kind, key]}{hint}")
    origin[kind, key] = file.path


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
    return {**data, "weights": {**weights, "file": os.path.realpath(folder / weights["file"])}}
