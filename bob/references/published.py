"""Scores that others published for the same thing: told beside ours, never deciding."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

from bob.case import Case, PublishedComparison, Result, Status, Verdict
from bob.catalog.schema import BackboneEntry
from bob.protocols import PROTOCOLS

FOLDER = Path(__file__).parent / "published"
"""``scores.csv``, ``sources.csv`` and ``widths.csv``, written by
``scripts/published_references.py``."""

_PROTOCOL: Mapping[str, Mapping[str, Any]] = {
    "knn": {"k": 20, "temperature": 0.07},
    "retrieval": {"setting": "medium"},
}
"""Settings of a recipe that the published scores of a task were reached under."""

_HARMLESS = {"pretrained", "num_classes"}
"""Arguments that leave a timm checkpoint what it is."""

_SHIFTED = {"top1": "shift", "top5": "shift_top5"}


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published score that a case of the suite measures too.

    Attributes:
        checkpoint: ``timm:NAME``; empty for a checkpoint that timm does not hold.
        backbone: Catalog key of the checkpoint; empty where the catalog has none.
        dataset: Key of the dataset the score was read on; of a shift, the shifted target.
        metric: A metric of the task; of a shift ``top1``, ``top5`` (on the target), ``source_top1``
            or ``source_top5`` (on the source's images of the target's classes).
        value: The score as a fraction.
        width: How far apart independent reproductions of such a score lie.
        image_size: Height and width of the images the backbone was fed.
        setting: The rest of the protocol, as far as the source states it.
    """

    checkpoint: str
    backbone: str
    task: str
    dataset: str
    metric: str
    value: float
    width: float
    image_size: int
    setting: str
    source_repo: str
    source_path: str
    source_commit: str

    @property
    def source(self) -> str:
        """Where it was published, in a few words."""
        return f"{self.source_repo} {self.source_path} @{self.source_commit[:7]}"

    def is_of(self, entry: BackboneEntry) -> bool:
        """Whether the entry is the checkpoint the score was published for."""
        if not self.checkpoint:
            return entry.key == self.backbone
        source = entry.source.replace("timm:hf-hub:timm/", "timm:")
        altered = (
            entry.arguments.keys() - _HARMLESS
            or not entry.arguments.get("pretrained", True)
            or (entry.weights is not None and entry.key != self.backbone)
            or entry.mean is not None
            or entry.std is not None
        )
        return source == self.checkpoint and not altered


@lru_cache(maxsize=1)
def published_scores() -> tuple[Published, ...]:
    """Every published score the package carries."""
    sources = {row["source"]: row for row in _rows("sources.csv")}
    widths = {
        (row["task"], row["dataset"], row["metric"]): float(row["width"])
        for row in _rows("widths.csv")
    }
    return tuple(
        Published(
            checkpoint=row["checkpoint"],
            backbone=row["backbone"],
            task=row["task"],
            dataset=row["dataset"],
            metric=row["metric"],
            value=float(row["value"]),
            width=widths[row["task"], row["dataset"], row["metric"]],
            image_size=int(row["image_size"]),
            setting=row["setting"],
            source_repo=sources[row["source"]]["repository"],
            source_path=sources[row["source"]]["path"],
            source_commit=sources[row["source"]]["commit"],
        )
        for row in _rows("scores.csv")
    )


def beside(
    verdict: Verdict,
    case: Case,
    results: Sequence[Result],
    scores: Iterable[Published] | None = None,
) -> Verdict:
    """The verdict with published scores told beside it; its status stays.

    Args:
        verdict: What the measured reference says.
        case: The judged case.
        results: One result a seed, without failures.
        scores: Published scores; those of the package by default.

    Returns:
        A verdict with ``published`` set, a warning for what lies outside the width, and the score's
        published value in the reason where there is no measured reference.
    """
    found = comparisons(case, results, published_scores() if scores is None else scores)
    if not found:
        return verdict
    reason = verdict.reason
    if verdict.status is Status.NO_REFERENCE:
        reason = f"{reason} Published: {_spelt(found[0])}."
    apart = [comparison for comparison in found if not comparison.agrees]
    warnings = verdict.warnings
    if apart:
        warnings += (f"not what was published: {'; '.join(map(_spelt, apart))}",)
    return replace(verdict, reason=reason, warnings=warnings, published=found)


def comparisons(
    case: Case, results: Sequence[Result], scores: Iterable[Published]
) -> tuple[PublishedComparison, ...]:
    """Each metric of the results that has a published score, the case's own score first.

    A published score counts for the same checkpoint, task, dataset and image size, under the
    settings of the recipe it was reached under.
    """
    recipe = case.recipe.model_dump()
    if any(recipe[key] != value for key, value in _PROTOCOL.get(case.task, {}).items()):
        return ()
    sizes = {result.image_size for result in results}
    found = []
    for score in scores:
        if score.task != case.task or sizes != {score.image_size} or not score.is_of(case.backbone):
            continue
        metric = _metric(score, case, results)
        values = [result.metrics.get(metric, math.nan) for result in results]
        if all(math.isfinite(value) for value in values):
            found.append(
                PublishedComparison(
                    metric=metric,
                    value=fmean(values),
                    published=score.value,
                    width=score.width,
                    source=score.source,
                )
            )
    return tuple(
        sorted(found, key=lambda comparison: (comparison.metric != case.metric, comparison.metric))
    )


def _metric(score: Published, case: Case, results: Sequence[Result]) -> str:
    """Name of a published score among the case's metrics; empty where it has none.

    Shifted targets have their own names among the metrics; a target named after a variant of
    ImageNet has ImageNet's validation split for its source.
    """
    if case.dataset.kind != "shift":
        return score.metric if score.dataset == case.dataset.key.removesuffix("_val") else ""
    if not PROTOCOLS[case.task].released_head:
        return ""
    if score.dataset != "imagenet":
        return f"{_SHIFTED.get(score.metric, score.metric)}/{score.dataset}"
    targets = {name.removeprefix("shift/") for result in results for name in result.metrics}
    return score.metric if any(name.startswith("imagenet_") for name in targets) else ""


def _spelt(comparison: PublishedComparison) -> str:
    return (
        f"{comparison.metric} {comparison.value:.4f} is {comparison.delta:+.4f} from the "
        f"published {comparison.published:.4f} ± {comparison.width:.4f} ({comparison.source})"
    )


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
