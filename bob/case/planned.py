"""What is to run: a case, what identifies it, and what identifies a run of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bob.catalog.schema import BackboneEntry, DatasetEntry
from bob.hashing import digest_of
from bob.protocols import PROTOCOLS, Judged, Recipe


@dataclass(frozen=True, kw_only=True)
class Case:
    """One backbone put through one task on one dataset at one scale with one seed.

    Attributes:
        recipe: Fully resolved settings of the task.
        margins: Smallest change for the worse that matters, by judged metric: a difference, or a
            share where the metric's scale is logarithmic. 0 for one that is not named.
        reference_seeds: Seeds a reference of this case is measured over.
        twin: Key of the same network initialised anew, which a pretrained one has to beat; empty
            where there is none.
        size: What tells it from the same case at the scale's own image size, such as ``64px``;
            empty where it has that.
    """

    backbone: BackboneEntry
    task: str
    dataset: DatasetEntry
    scale: str
    recipe: Recipe
    seed: int = 0
    margins: Mapping[str, float] = field(default_factory=dict)
    reference_seeds: int = 8
    twin: str = ""
    size: str = ""

    @property
    def name(self) -> str:
        """Readable name within a task: ``backbone-dataset``, and the variant if any."""
        return "-".join(filter(None, (self.backbone.key, self.dataset.key, self.variant)))

    @property
    def engine(self) -> str:
        """The engine, where the task has several; empty elsewhere."""
        return self.recipe.engine_name

    @property
    def variant(self) -> str:
        """The engine if any, ``grid`` where the recipe is chosen from one, and another size."""
        return "-".join(filter(None, (self.recipe.variant, self.size)))

    @property
    def setting(self) -> str:
        """Key in a reference file: ``task/dataset``, and the variant if any."""
        return "/".join(filter(None, (self.task, self.dataset.key, self.variant)))

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The judged metrics that recipe and dataset give, the score first."""
        return tuple(
            metric
            for metric in PROTOCOLS[self.task].judged
            if metric.name not in self.recipe.unjudged
            and (not metric.kinds or self.dataset.kind in metric.kinds)
        )

    @property
    def metric(self) -> str:
        """Name of the score: the first of the judged metrics."""
        return PROTOCOLS[self.task].metric

    @property
    def margin(self) -> float:
        """The score's margin."""
        return self.margins.get(self.metric, 0.0)

    @property
    def seeded(self) -> bool:
        """Whether the seed can matter: to the protocol, or to the weights."""
        return PROTOCOLS[self.task].seeded or not self.backbone.fixed

    @cached_property
    def protocol(self) -> str:
        """Hash of all that makes two scores comparable: the case less backbone and seed."""
        return digest_of(self._protocol_facts())

    @cached_property
    def id(self) -> str:
        """Hash of everything that changes the score and of nothing that does not."""
        return digest_of(
            {
                "protocol": self._protocol_facts(),
                "backbone": self.backbone.identity,
                "seed": self.seed,
            }
        )

    def with_seed(self, seed: int) -> Case:
        """The same case with another seed."""
        return replace(self, seed=seed)

    def _protocol_facts(self) -> dict[str, Any]:
        return {
            **PROTOCOLS[self.task].identity,
            "dataset": self.dataset.identity,
            "recipe": self.recipe.model_dump(mode="json"),
        }


def run_key(case: Case, *, weights: str, data: str, factory: str) -> str:
    """Hash of a case and of what was loaded for it.

    Args:
        case: What was planned.
        weights: Digest of the weights.
        data: Digest of the data.
        factory: Fingerprint of the code that built the backbone; empty where the protocol's
            version covers it.
    """
    return digest_of(
        {"case": case.id, "weights": weights, "data": data, "factory": factory}, length=16
    )
