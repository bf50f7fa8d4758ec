"""timm's tables ``results-*.csv``: released classifiers on ImageNet and its variants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bob.catalog import Catalog
from bob.errors import BobError, unknown
from bob.exchange.cells import Checkpoints, Place
from bob.exchange.checks import refusal
from bob.ledger.score import PUBLISHED, Score
from bob.protocols import PROTOCOLS

TIMM_COLUMNS = {
    "model": "the checkpoint",
    "top1": "percent",
    "top1_err": "has to be 100 less top1",
    "top5": "percent",
    "top5_err": "has to be 100 less top5",
    "param_count": "not kept",
    "img_size": "part of the protocol",
    "crop_pct": "part of the protocol",
    "cropt_pct": "the same, as older tables spell it",
    "interpolation": "part of the protocol",
    "top1_diff": "not kept",
    "top5_diff": "not kept",
    "rank_diff": "not kept",
}
"""Columns and what becomes of them."""

TASK, DATASET = "eval_released", "imagenet_val_ood"
"""What the suite measures in one case: ImageNet and four variants."""

TABLES: Mapping[str, tuple[str, str]] = {
    "results-imagenet.csv": ("top1", "top5"),
    "results-imagenet-a.csv": ("shift/imagenet_a", "shift_top5/imagenet_a"),
    "results-imagenet-a-clean.csv": ("source_top1/imagenet_a", "source_top5/imagenet_a"),
    "results-imagenet-r.csv": ("shift/imagenet_r", "shift_top5/imagenet_r"),
    "results-imagenet-r-clean.csv": ("source_top1/imagenet_r", "source_top5/imagenet_r"),
    "results-imagenetv2-matched-frequency.csv": ("shift/imagenet_v2", "shift_top5/imagenet_v2"),
    "results-sketch.csv": ("shift/imagenet_sketch", "shift_top5/imagenet_sketch"),
}
"""Names of files, and the suite's metrics of the same images and labels."""

_OTHER = {"results-imagenet-real.csv": "ImageNet-ReaL's labels"}


def timm_scores(
    path: Path, rows: Iterable[tuple[int, Mapping[str, str]]], catalog: Catalog
) -> Iterator[tuple[int, str, Score]]:
    """Two scores a row, each with the number of its row and its column.

    Raises:
        BobError: The file has another name than timm gives it, or a cell is wrong.
    """
    if path.name in _OTHER:
        raise BobError(f"{path}: the suite has no dataset with {_OTHER[path.name]}.")
    if path.name not in TABLES:
        raise BobError(
            f"{path}: {unknown('table of timm', path.name, TABLES)} The name tells the dataset."
        )
    known = Checkpoints(catalog)
    for number, row in rows:
        yield from _row(Place(path, number), row, known)


def _row(
    place: Place, row: Mapping[str, str], known: Checkpoints
) -> Iterator[tuple[int, str, Score]]:
    file, number = str(place.path), place.row
    if not row["model"]:
        raise refusal(file, number, "model", "it is empty")
    key, entry = known.of_timm(row["model"])
    crop = row.get("crop_pct") or row.get("cropt_pct") or ""
    words = [f"{place.whole('img_size', row['img_size'])}px"]
    words += [f"crop_pct {crop}"] if crop else []
    words += [row["interpolation"]] if row.get("interpolation") else []
    judged = {metric.name: metric for metric in PROTOCOLS[TASK].judged}
    for column, name in zip(("top1", "top5"), TABLES[place.path.name], strict=True):
        value = place.percent(column, row[column])
        error = row.get(f"{column}_err")
        if error and abs(place.percent(f"{column}_err", error) + value - 1) > 2e-5:
            raise refusal(
                file, number, f"{column}_err", f"{error} and {row[column]} are not 100 together"
            )
        metric = judged.get(name)
        yield (
            number,
            column,
            Score(
                backbone=key,
                family=entry.family if entry else "",
                pretraining=entry.pretraining if entry else "",
                task=TASK,
                dataset=DATASET,
                scale="",
                seed=0,
                metric=name,
                unit=metric.unit if metric else "",
                value=value,
                higher_is_better=metric.higher_is_better if metric else None,
                is_score=name == PROTOCOLS[TASK].metric,
                protocol=f"published: {', '.join(words)}",
                role=PUBLISHED,
                environment=f"source={place.path.name}",
            ),
        )
