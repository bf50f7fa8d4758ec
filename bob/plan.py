"""Selection × catalog → cases. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bob.case import Case
from bob.catalog import BackboneEntry, Catalog, TaskPlan, parse_backbone
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
    """

    scale: str = "smoke"
    backbones: tuple[str, ...] = ()
    seed: int = 0


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
        resolve = lru_cache(maxsize=None)(lambda family: _recipe(task, settings, family))
        return tuple(
            Case(
                backbone=backbone,
                task=task,
                dataset=self.catalog.dataset(dataset),
                scale=self.scale.key,
                recipe=resolve(backbone.family),
                seed=self.selection.seed,
                margin=settings.margin,
                reference_seeds=settings.reference_seeds,
            )
            for backbone in sorted(self.backbones, key=lambda entry: entry.key)
            for dataset in sorted(settings.datasets)
        )

    def all_cases(self) -> tuple[Case, ...]:
        """The cases of every task of the scale."""
        return tuple(case for task in sorted(self.scale.tasks) for case in self.cases(task))


def _recipe(task: str, settings: TaskPlan, family: str) -> Frozen:
    fields: Mapping[str, Any] = {**settings.recipe, **settings.families.get(family, {})}
    return TASKS[task].recipe.model_validate(fields)
