"""Selection × catalog → cases. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from bob.case import Case
from bob.catalog import (
    BackboneEntry,
    Catalog,
    DatasetEntry,
    TaskPlan,
    parse_backbone,
    parse_dataset,
)
from bob.errors import BobError, unknown
from bob.frozen import Frozen
from bob.tasks import TASKS


@dataclass(frozen=True)
class Selection:
    """What a user asked for.

    Attributes:
        scale: Key of a scale.
        backbones: Keys or specs as of ``parse_backbone``; empty for the scale's own.
        seed: Seed of each case; further seeds count up from it.
        engine: Engine of detection tasks; empty for the scale's own.
        datasets: Keys or specs as of ``parse_dataset``; empty for the scale's own.
    """

    scale: str = "smoke"
    backbones: tuple[str, ...] = ()
    seed: int = 0
    engine: str = ""
    datasets: tuple[str, ...] = ()


class Plan:
    """The cases of one selection.

    Args:
        catalog: Known backbones, datasets and scales.
        selection: What the user asked for.

    Raises:
        BobError: A backbone or the scale is unknown.
    """

    def __init__(self, catalog: Catalog, selection: Selection) -> None:
        self.scale = catalog.scale(selection.scale)
        self.selection = selection
        self.catalog = catalog
        named = [parse_backbone(spec, catalog) for spec in selection.backbones]
        taken: dict[str, BackboneEntry] = {}
        for entry in named:
            if taken.setdefault(entry.key, entry) != entry:
                raise BobError(
                    f"Two backbones are named {entry.key!r}; tell them apart with name=."
                )
        self.backbones = tuple(taken.values()) or tuple(
            entry for entry in catalog.backbones.values() if self.scale.key in entry.scales
        )
        datasets = [parse_dataset(spec, catalog) for spec in selection.datasets]
        chosen: dict[str, DatasetEntry] = {}
        for one in datasets:
            if chosen.setdefault(one.key, one) != one:
                raise BobError(
                    f"Two datasets are named {one.key!r}: {chosen[one.key].options.get('path')} "
                    f"and {one.options.get('path')}. Tell them apart with name=, or rename a "
                    "folder."
                )
        self.named_datasets = tuple(chosen.values())
        self.catalog = catalog.with_backbones(
            entry for entry in named if entry.key not in catalog.backbones
        )

    def cases(self, task: str) -> tuple[Case, ...]:
        """Every case of a task, sorted by backbone and dataset; empty if the scale lacks the task.

        Raises:
            BobError: The task is unknown.
        """
        if task not in TASKS:
            raise unknown("task", task, TASKS)
        settings = self.scale.tasks.get(task)
        if settings is None:
            return ()
        resolve = lru_cache(maxsize=None)(
            lambda family, masks: _recipe(task, settings, family, self.selection.engine, masks)
        )
        return tuple(
            Case(
                backbone=backbone,
                task=task,
                dataset=dataset,
                scale=self.scale.key,
                recipe=resolve(backbone.family, dataset.options.get("masks") is not False),
                seed=self.selection.seed,
                margin=settings.margin,
                reference_seeds=settings.reference_seeds,
            )
            for backbone in sorted(self.backbones, key=lambda entry: entry.key)
            for dataset in self._datasets(task, settings)
        )

    def _datasets(self, task: str, settings: TaskPlan) -> list[DatasetEntry]:
        if self.named_datasets:
            spec = TASKS[task]
            return [
                one
                for one in self.named_datasets
                if spec.takes(one.kind)
                # a released classifier knows the classes of catalogued datasets alone
                and (one.key in self.catalog.datasets or not spec.released_head)
            ]
        return [self.catalog.dataset(key) for key in sorted(settings.datasets)]

    def all_cases(self) -> tuple[Case, ...]:
        """The cases of every task of the scale."""
        return tuple(case for task in sorted(self.scale.tasks) for case in self.cases(task))


def _recipe(task: str, settings: TaskPlan, family: str, engine: str, masks: bool) -> Frozen:
    model = TASKS[task].recipe
    fields: dict[str, Any] = {**settings.recipe, **settings.families.get(family, {})}
    if "engine" in model.model_fields:
        chosen = engine or fields.get("engine") or model.model_fields["engine"].default
        fields |= {"engine": chosen, **settings.engines.get(chosen, {})}
        if not masks:
            fields["masks"] = False
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BobError(
            f"The recipe of {task} for family {family!r} cannot be run with --engine "
            f"{engine or 'none'}: {first['msg']}. Give the scale's {task} the differences under "
            f"`engines:` in its catalog file."
        ) from None
