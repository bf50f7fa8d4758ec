"""Selection × catalog → cases. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

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
from bob.catalog.overrides import resolve
from bob.errors import BobError, some, unknown
from bob.protocols import PROTOCOLS, Recipe, SizedRecipe

_Entry = TypeVar("_Entry", BackboneEntry, DatasetEntry)


@dataclass(frozen=True)
class Selection:
    """What a user asked for.

    Attributes:
        scale: Key of a scale.
        backbones: Keys or specs as of ``parse_backbone``; empty for the scale's own.
        seed: Seed of each case; further seeds count up from it.
        engine: Engine of detection tasks; empty for the scale's own.
        datasets: Keys or specs as of ``parse_dataset``; empty for the scale's own.
        grid: Whether recipes are chosen from the scale's grids.
        image_size: Height and width of images where the scale says another one; ``own`` for each
            backbone's own, none for what the scale says.
    """

    scale: str = "smoke"
    backbones: tuple[str, ...] = ()
    seed: int = 0
    engine: str = ""
    datasets: tuple[str, ...] = ()
    grid: bool = False
    image_size: int | Literal["own"] | None = None


class Plan:
    """The cases of one selection.

    Args:
        catalog: Known backbones, datasets and scales.
        selection: What the user asked for.

    Raises:
        BobError: A backbone or the scale is unknown, or a grid is wanted of a scale without one.
    """

    def __init__(self, catalog: Catalog, selection: Selection) -> None:
        self.scale = catalog.scale(selection.scale)
        if selection.grid and not any(plan.grid for plan in self.scale.tasks.values()):
            raise BobError(
                f"--grid: no task of scale {self.scale.key!r} has a grid; give it one in its "
                "catalog file, such as grid: {lr: [1.0e-4, 1.0e-3], weight_decay: [0.05]}."
            )
        self.selection = selection
        self.catalog = catalog
        named = _distinct(
            "backbones",
            (parse_backbone(spec, catalog) for spec in selection.backbones),
            lambda entry: entry.weights.name if entry.weights else entry.source,
        )
        self.backbones = named or tuple(
            entry for entry in catalog.backbones.values() if self.scale.key in entry.scales
        )
        self.named_datasets = _distinct(
            "datasets",
            (parse_dataset(spec, catalog) for spec in selection.datasets),
            lambda entry: entry.options.get("path"),
        )
        self.catalog = catalog.with_backbones(
            entry for entry in named if entry.key not in catalog.backbones
        )

    def cases(self, task: str) -> tuple[Case, ...]:
        """Every case of a task, sorted by backbone and dataset; empty if the scale lacks the task.

        Raises:
            BobError: The task is unknown.
        """
        if task not in PROTOCOLS:
            raise unknown("task", task, PROTOCOLS)
        settings = self.scale.tasks.get(task)
        if settings is None:
            return ()
        recipe = lru_cache(maxsize=None)(
            lambda *keys: _recipe(task, settings, keys, self.selection)
        )
        margins = self.catalog.margins_of(task, settings)
        found = []
        for backbone in sorted(self.backbones, key=lambda entry: entry.key):
            if not backbone.takes(task):
                continue
            for dataset in self._datasets(task, settings):
                of_scale = recipe(
                    backbone.family,
                    dataset.key if dataset.key in settings.by_dataset else "",
                    backbone.key if backbone.key in settings.by_backbone else "",
                    dataset.options.get("masks") is not False,
                )
                sized, size = self._sized(of_scale, backbone, dataset)
                found.append(
                    Case(
                        backbone=backbone,
                        task=task,
                        dataset=dataset,
                        scale=self.scale.key,
                        recipe=sized,
                        seed=self.selection.seed,
                        margins=margins,
                        reference_seeds=settings.reference_seeds,
                        twin=self.catalog.twin_of(backbone),
                        size=size,
                    )
                )
        return tuple(found)

    @property
    def sizes(self) -> str:
        """At what size images are fed, where it is not the scale's; empty otherwise."""
        wanted = self.selection.image_size
        cases = self.all_cases() if wanted is not None or self.named_datasets else ()
        if wanted is None:
            own = {case.backbone.key for case in cases if self._at_own_size(case)}
            return f"images at the own size of {some(sorted(own))}" if own else ""
        told = "each backbone's own size" if wanted == "own" else f"{wanted} pixels"
        size = None if wanted == "own" else wanted
        kept = sorted({case.task for case in cases if _keeps_size(case.recipe, size)})
        return f"images at {told}" + (f" (not in {', '.join(kept)})" if kept else "")

    def _sized(
        self, recipe: Recipe, backbone: BackboneEntry, dataset: DatasetEntry
    ) -> tuple[Recipe, str]:
        """The recipe at the size that is wanted, and what tells it from the scale's own size."""
        wanted = self.selection.image_size
        if wanted is None:
            own = self._made_for_another(backbone, dataset, recipe.input_size)
            return recipe.at_size(None) if own else recipe, ""
        sized = recipe.at_size(None if wanted == "own" else wanted)
        if sized == recipe:
            return recipe, ""
        return sized, "ownpx" if wanted == "own" else f"{wanted}px"

    def _made_for_another(
        self, backbone: BackboneEntry, dataset: DatasetEntry, size: int | None
    ) -> bool:
        """Whether one's own data are to be fed to a backbone at its own size, not at the scale's.

        A scale of digits says nothing on photographs that somebody brings along.
        """
        if size is None or not self.scale.own_size or dataset.key in self.catalog.datasets:
            return False
        known = backbone.image_size
        return backbone.fixed and known != size and bool(known or backbone.source[:5] == "timm:")

    def _at_own_size(self, case: Case) -> bool:
        sized = case.recipe.input_size is None and isinstance(case.recipe, SizedRecipe)
        return sized and case.dataset.key not in self.catalog.datasets

    def why_none(self, task: str) -> str:
        """Why a task has no cases."""
        if task in self.scale.tasks and self.backbones and not self.named_datasets:
            keys = ", ".join(sorted(entry.key for entry in self.backbones))
            return f"{task} is not among the tasks of {keys}"
        return f"scale {self.scale.key!r} has no {task}"

    def _datasets(self, task: str, settings: TaskPlan) -> list[DatasetEntry]:
        if self.named_datasets:
            spec = PROTOCOLS[task]
            return [
                entry
                for entry in self.named_datasets
                if spec.takes(entry.kind)
                # a released classifier knows the classes of catalogued datasets alone
                and (entry.key in self.catalog.datasets or not spec.released_head)
            ]
        return [self.catalog.dataset(key) for key in sorted(settings.datasets)]

    def all_cases(self) -> tuple[Case, ...]:
        """The cases of every task of the scale."""
        return tuple(case for task in sorted(self.scale.tasks) for case in self.cases(task))


def _keeps_size(recipe: Recipe, size: int | None) -> bool:
    """Whether a recipe does not say the size, so that another one changes nothing."""
    return recipe.at_size(size) is recipe


def _distinct(
    what: str, entries: Iterable[_Entry], origin: Callable[[_Entry], object]
) -> tuple[_Entry, ...]:
    """Entries named on the command line, each once."""
    taken: dict[str, _Entry] = {}
    for entry in entries:
        first = taken.setdefault(entry.key, entry)
        if first != entry:
            raise BobError(
                f"Two {what} are named {entry.key!r}: {origin(first)} and {origin(entry)}. Tell "
                "them apart with name=."
            )
    return tuple(taken.values())


def _recipe(task: str, settings: TaskPlan, keys: tuple[Any, ...], selection: Selection) -> Recipe:
    """The recipe for a family, a dataset and a backbone (where they differ) and masks or none."""
    family, dataset, backbone, masks = keys
    model, engine = PROTOCOLS[task].recipe, selection.engine
    engines = model.model_fields.get("engine")
    fields = resolve(
        settings,
        family=family,
        dataset=dataset,
        backbone=backbone,
        engine=engine,
        default_engine=engines.default if engines else "",
    )
    if not masks and "masks" in model.model_fields:
        fields["masks"] = False
    if selection.grid and settings.grid is not None:
        fields["grid"] = settings.grid
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BobError(
            f"The recipe of {task} for family {family!r} cannot be run with --engine "
            f"{engine or 'none'}: {first['msg']}. Give the scale's {task} the differences under "
            f"`engines:` in its catalog file."
        ) from None
