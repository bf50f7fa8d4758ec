"""Tables with one score a row, as VisBench's records and collections of published scores have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bob.catalog import Catalog
from bob.exchange.cells import Checkpoints, Place
from bob.exchange.checks import is_time, refusal
from bob.exchange.timm_table import DATASET, TASK
from bob.ledger.score import PUBLISHED, Score
from bob.protocols import PROTOCOLS

LONG_COLUMNS = {
    "backbone": "a catalog key, a name of timm, or any other; with its pretraining where it has "
    "several",
    "family": "kept",
    "pretraining": "kept",
    "task": "the suite's name of a protocol; rows of others are set apart",
    "dataset": "the suite's key, or the usual name of one of its datasets",
    "variant": "kept",
    "setting": "part of the protocol, as all that follow down to layer",
    "level": "part of the protocol",
    "split": "part of the protocol",
    "pooling": "part of the protocol",
    "feature_mode": "part of the protocol",
    "layer": "part of the protocol",
    "metric": "the suite's name of a metric; rows of others are set apart",
    "value": "a number",
    "unit": "percent, proportion, or the unit of a score that is set apart",
    "higher_is_better": "true or false; has to be the suite's",
    "seed": "0 where it is empty",
    "dataset_size": "images or queries",
    "dataset_fingerprint": "digest of the data",
    "backbone_key": "digest of the weights",
    "source": "where it was published",
    "source_repo": "the same, in parts",
    "source_path": "the same, in parts",
    "source_commit": "the same, in parts",
    "timestamp": "kept beside the source; of two scores of one protocol the newest counts",
}
"""Columns and what becomes of them; the first of each group of names is ours."""

_ALIASES = {"timm_name_or_checkpoint": "backbone", "model": "backbone"}

_PROTOCOL = ("setting", "level", "split", "pooling", "feature_mode", "layer")
_SOURCE = ("source", "source_repo", "source_path", "source_commit", "timestamp")

_DATASETS = {
    "ImageNet-1k": "imagenet", "CUB-200-2011": "cub200", "ObjectNet (<=50 img/class)": "objectnet",
    "INSTRE-S1 (<=50 img/class)": "instre", "ROxford5k (medium)": "roxford5k",
    "RParis6k (medium)": "rparis6k", "GLDv2 retrieval": "gldv2",
}  # fmt: skip
"""What collections call the suite's datasets."""

_SHIFTS = {
    "ImageNet-A": "shift{top5}/imagenet_a", "ImageNet-R": "shift{top5}/imagenet_r",
    "ImageNet-V2-matched-frequency": "shift{top5}/imagenet_v2",
    "ImageNet-Sketch": "shift{top5}/imagenet_sketch",
    "ImageNet-1k-val (200-class subset of ImageNet-A)": "source_{top}/imagenet_a",
    "ImageNet-1k-val (200-class subset of ImageNet-R)": "source_{top}/imagenet_r",
}  # fmt: skip
_RELEASED = re.compile(r"(\d+)px eval of released classifier weights")
_TRUTH = {"true": True, "false": False, "": None}
_SHARES = {"proportion", "bounded"}


def canonical(column: str) -> str:
    """Our name of a column."""
    return _ALIASES.get(column, column)


def long_scores(
    path: Path, rows: Iterable[tuple[int, Mapping[str, str]]], catalog: Catalog
) -> Iterator[tuple[int, str, Score]]:
    """A score a row, with the number of the row and the column of its value.

    Raises:
        BobError: A cell is wrong.
    """
    known, listed = Checkpoints(catalog), list(rows)
    pretrained: dict[str, set[str]] = {}
    for _, row in listed:
        pretrained.setdefault(row["backbone"], set()).add(row.get("pretraining", ""))
    for number, row in listed:
        several = len(pretrained[row["backbone"]]) > 1
        yield number, "value", _score(Place(path, number), row, known, several)


def _score(
    place: Place, row: Mapping[str, str], known: Checkpoints, several_weights: bool
) -> Score:
    def cell(name: str) -> str:
        return row.get(name, "")

    task, dataset, metric = _names(cell("task"), cell("dataset"), cell("metric"), cell("setting"))
    key, entry = known.of_name(cell("backbone"))
    if entry is None and several_weights:
        # an architecture, not a checkpoint
        key = f"{key} ({cell('pretraining') or 'pretraining not told'})"
    spec = PROTOCOLS.get(task)
    judged = {known.name: known for known in spec.judged}.get(metric) if spec else None
    value = _value(place, cell("value"), cell("unit"), judged.unit if judged else "")
    higher = _TRUTH.get(cell("higher_is_better").lower(), ...)
    if higher is ... or (judged and higher not in (None, judged.higher_is_better)):
        told = cell("higher_is_better")
        why = f"another metric: {told!r}" if higher is not ... else f"{told!r} is not true or false"
        raise refusal(str(place.path), place.row, "higher_is_better", why)
    words = [
        cell(name) if name == "setting" else f"{name} {cell(name)}"
        for name in _PROTOCOL
        if cell(name)
    ]
    sources = [cell(name) for name in _SOURCE if cell(name)]
    size = cell("dataset_size")
    return Score(
        backbone=key,
        family=cell("family") or (entry.family if entry else ""),
        pretraining=cell("pretraining") or (entry.pretraining if entry else ""),
        task=task,
        dataset=dataset,
        variant=cell("variant"),
        scale="",
        seed=place.whole("seed", cell("seed")) if cell("seed") else 0,
        metric=metric,
        unit=judged.unit if judged else "",
        value=value,
        higher_is_better=judged.higher_is_better if judged else None,
        is_score=spec is not None and metric == spec.metric,
        test_size=place.whole("dataset_size", size) if size else 0,
        protocol=f"published: {', '.join(words) or 'nothing is said of how'}",
        role=PUBLISHED,
        weights=cell("backbone_key"),
        data=cell("dataset_fingerprint"),
        environment=f"source={' '.join(sources) or place.path.name}",
        time=cell("timestamp") if is_time(cell("timestamp")) else "",
    )


def _names(task: str, dataset: str, metric: str, setting: str) -> tuple[str, str, str]:
    """The suite's names of a task, a dataset and a metric, where it has them."""
    if _RELEASED.match(setting) and metric in ("top1", "top5"):
        if dataset == "ImageNet-1k":
            return TASK, DATASET, metric
        if dataset in _SHIFTS:
            top5 = "_top5" if metric == "top5" else ""
            return TASK, DATASET, _SHIFTS[dataset].format(top5=top5, top=metric)
    return task, _DATASETS.get(dataset, dataset), metric


def _value(place: Place, text: str, said: str, unit: str) -> float:
    """A value in the suite's unit; of a metric that is not judged as it is, percents as shares."""
    if said == "percent":
        if unit and unit not in _SHARES:
            why = f"the suite's metric is of unit {unit}, not a percentage"
            raise refusal(str(place.path), place.row, "unit", why)
        return place.percent("value", text)
    value = place.number("value", text)
    same = {"", unit, "fraction" if unit in _SHARES else unit}
    same |= {"proportion"} if unit in _SHARES else set()
    if unit and said not in same:
        raise refusal(
            str(place.path), place.row, "unit", f"{said!r} is not the suite's, which is {unit}"
        )
    if unit in _SHARES and not said and not 0 <= value <= 1:
        why = f"{text} is no share of 1; give the column unit with percent"
        raise refusal(str(place.path), place.row, "value", why)
    if not unit and said in ("proportion", "fraction") and not 0 <= value <= 1:
        raise refusal(str(place.path), place.row, "value", f"{text} is no share of 1")
    return value
