"""Filter tables of published scores to what a case of the suite measures too.

    python scripts/published_references.py FOLDER

FOLDER holds ``published_scores.csv`` and ``bob_paper_scores.csv`` (one score a row, with its
repository, path and commit) and ``backbones.csv`` (catalog keys and their checkpoints). Writes
``scores.csv``, ``sources.csv`` and ``widths.csv`` of ``bob/references/published`` and prints the
spread that the widths rest on. The rules are those of ``docs/bands.md``.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import fmean

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, resolve_data_config

from bob.catalog import load_catalog

TARGET = Path(__file__).parents[1] / "bob" / "references" / "published"
TIMM = "huggingface/pytorch-image-models"
Row = Mapping[str, str]

MIN_PAIRS = 10
"""Pairs of independent reproductions below which their spread says too little."""

RELEASED_WIDTH = 0.001
"""Width of a released classifier's score: the least that a table of 0.1 points tells."""

KNN_WIDTH = 0.005
"""Width of a nearest-neighbour score, of which no two sources reproduce one another: the margin of
half a point below which the suite's own exact bands call no drop."""

_EVALUATED = re.compile(r"(\d+)px eval of released classifier weights, (crop_pct ([\d.]+), (\w+))$")
_VARIANTS = {
    "ImageNet-1k": ("imagenet", ""),
    "ImageNet-A": ("imagenet_a", ""),
    "ImageNet-R": ("imagenet_r", ""),
    "ImageNet-V2-matched-frequency": ("imagenet_v2", ""),
    "ImageNet-Sketch": ("imagenet_sketch", ""),
    "ImageNet-1k-val (200-class subset of ImageNet-A)": ("imagenet_a", "source_"),
    "ImageNet-1k-val (200-class subset of ImageNet-R)": ("imagenet_r", "source_"),
}
"""Tables of timm: the dataset, and whether it is the source's images of the dataset's classes."""

_RETRIEVAL = {
    "CUB-200-2011": "cub200",
    "ObjectNet (<=50 img/class)": "objectnet",
    "INSTRE-S1 (<=50 img/class)": "instre",
    "ROxford5k (medium)": "roxford5k",
    "RParis6k (medium)": "rparis6k",
    "GLDv2 retrieval": "gldv2",
}
"""Which year's iNaturalist the authors took and their pairs of Copydays are not public."""
_SIDE = 224
_NOT_POOLED = ("vicreg-", "midas-")
"""Rows whose features left a classification head rather than the pooling."""


@dataclass(frozen=True)
class Score:
    """One row of ``scores.csv``; the value is a fraction."""

    checkpoint: str
    backbone: str
    task: str
    dataset: str
    metric: str
    value: float
    image_size: int
    setting: str
    source: tuple[str, str, str]


def released(rows: Iterable[Row], keys: Mapping[str, str]) -> Iterator[Score]:
    """Timm's tables at the size, crop and interpolation the checkpoint asks for in tests."""
    for row in rows:
        evaluated = _EVALUATED.fullmatch(row["setting"])
        name = row["timm_name_or_checkpoint"]
        if row["source_repo"] != TIMM or evaluated is None or row["dataset"] not in _VARIANTS:
            continue
        size = _test_size(name, crop=float(evaluated[3]), interpolation=evaluated[4])
        if size != int(evaluated[1]):
            continue
        dataset, prefix = _VARIANTS[row["dataset"]]
        yield Score(
            checkpoint=f"timm:{name}",
            backbone=keys.get(name, ""),
            task="eval_released",
            dataset=dataset,
            metric=prefix + row["metric"],
            value=_fraction(row),
            image_size=size,
            setting=evaluated[2],
            source=_source(row),
        )


def neighbours(rows: Iterable[Row], keys: Mapping[str, str]) -> Iterator[Score]:
    """DINO's nearest neighbours of its own checkpoints, whose k the paper states."""
    for row in rows:
        name = row["timm_name_or_checkpoint"]
        key = keys.get(name, "")
        own = row["source_repo"] == "facebookresearch/dino" and "T=0.07" in row["setting"]
        if row["task"] != "knn" or row["metric"] != "top1" or not own:
            continue
        config = _config(name)
        if not (config or key):
            continue
        yield Score(
            checkpoint=f"timm:{name}" if config else "",
            backbone=key,
            task="knn",
            dataset="imagenet",
            metric="top1",
            value=_fraction(row),
            image_size=224,
            setting="k 20 (arXiv 2104.14294, section 3.2), T 0.07, short edge 256, crop 224",
            source=_source(row),
        )


def retrieval(
    authors: Iterable[Row], rows: Iterable[Row], keys: Mapping[str, str]
) -> Iterator[Score]:
    """The authors' MRR of checkpoints whose pooled features they read as the suite does."""
    checkpoints = {
        matched[1]: row
        for row in rows
        if row["task"] == "retrieval"
        and (matched := re.search(r"notebook table, row ([\w.-]+),", row["setting"]))
    }
    for row in authors:
        matched = re.search(r"run_key=([\w.-]+)", row["setting"])
        if row["metric"] != "MRR" or matched is None or row["dataset"] not in _RETRIEVAL:
            continue
        listed = checkpoints.get(matched[1])
        if listed is None or matched[1].startswith(_NOT_POOLED):
            continue
        name = listed["timm_name_or_checkpoint"]
        config = _config(name)
        key = keys.get(name, "")
        if not (key if config is None else _imagenet_statistics(config)):
            continue
        # Larger images were cropped by other shares than this suite crops.
        size = 384 if "384" in matched[1] else 256 if "256" in matched[1] else _SIDE
        if size != _SIDE or (config is not None and config.input_size[-1] != _SIDE):
            continue
        yield Score(
            checkpoint=f"timm:{name}" if config else "",
            backbone=key,
            task="retrieval",
            dataset=_RETRIEVAL[row["dataset"]],
            metric="mrr_authors",
            value=float(row["value"]),
            image_size=_SIDE,
            setting=f"short edge 256, crop {_SIDE}, bicubic, mean and deviation of ImageNet",
            source=_source(listed),
        )


def spread(rows: Iterable[Row]) -> dict[tuple[str, str], list[float]]:
    """Differences between timm's tables and other evaluations of the same released weights.

    Returns:
        Per dataset and metric the signed difference of every pair, as fractions: same checkpoint,
        same resolution; retrained weights and zero-shot classifiers are no reproduction.
    """
    reports: dict[tuple[str, str, str, str], list[tuple[str, float]]] = defaultdict(list)
    for row in rows:
        size = re.match(r"(\d+)px", row["setting"])
        strangers = re.search(r"zero-shot|retrain|seed trial|end-to-end fine-tune,", row["setting"])
        dataset = {"ImageNet-V2": "ImageNet-V2-matched-frequency"}.get(
            row["dataset"], row["dataset"]
        )
        if row["task"] not in ("classification", "ood") or not size or strangers:
            continue
        if dataset in _VARIANTS and not _VARIANTS[dataset][1]:
            where = (row["timm_name_or_checkpoint"], dataset, row["metric"], size[1])
            reports[where].append((row["source_repo"], _fraction(row)))
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (_, dataset, metric, _), values in reports.items():
        tables = [value for repository, value in values if repository == TIMM]
        for repository, value in values:
            if repository != TIMM and tables:
                nearest = min(tables, key=lambda table: abs(value - table))
                pairs[_VARIANTS[dataset][0], metric].append(value - nearest)
    return pairs


def widths(
    scores: Iterable[Score], pairs: Mapping[tuple[str, str], Sequence[float]]
) -> list[tuple[str, ...]]:
    """One row per task, dataset and metric: width, pairs, spread and what the width rests on."""
    table = []
    for task, dataset, metric in sorted(
        {(score.task, score.dataset, score.metric) for score in scores}
    ):
        differences = pairs.get((dataset, metric), []) if task == "eval_released" else []
        observed = sqrt(fmean(value**2 for value in differences)) if differences else 0.0
        if task == "eval_released":
            width, basis = RELEASED_WIDTH, "least"
            if len(differences) >= MIN_PAIRS and observed > width:
                width, basis = observed, "spread"
        elif task == "knn":
            width, basis = KNN_WIDTH, "fallback"
        else:
            margins = load_catalog().margins[task]
            width, basis = margins[metric.removesuffix("_authors")], "fallback"
        table.append(
            (task, dataset, metric, f"{width:.4f}", str(len(differences)), f"{observed:.5f}", basis)
        )
    return table


def main(folder: Path) -> None:
    """Read, filter, write and tell."""
    rows = _read(folder / "published_scores.csv")
    authors = _read(folder / "bob_paper_scores.csv")
    keys = _keys(_read(folder / "backbones.csv"))
    scores = [
        *released(rows, keys), *neighbours(rows, keys), *retrieval(authors, rows, keys)
    ]  # fmt: skip
    doubles = [
        where
        for where, count in Counter(replace(score, value=0.0) for score in scores).items()
        if count > 1
    ]
    if doubles:
        raise SystemExit(f"given twice: {doubles[0]}")
    sources = sorted({score.source for score in scores})
    table = widths(scores, spread(rows))
    _write("sources.csv", ("source", "repository", "path", "commit"),
           ((str(index), *source) for index, source in enumerate(sources)))  # fmt: skip
    _write("widths.csv", ("task", "dataset", "metric", "width", "pairs", "spread", "basis"), table)
    _write(
        "scores.csv",
        ("checkpoint", "backbone", "task", "dataset", "metric", "value", "image_size", "setting",
         "source"),
        sorted(
            (score.checkpoint, score.backbone, score.task, score.dataset, score.metric,
             f"{score.value:.6g}", str(score.image_size), score.setting,
             str(sources.index(score.source)))
            for score in scores
        ),
    )  # fmt: skip
    print(f"{len(scores)} of {len(rows) + len(authors)} rows kept")
    for task, count in sorted(Counter(score.task for score in scores).items()):
        names = {score.checkpoint or score.backbone for score in scores if score.task == task}
        print(f"  {task}: {count} scores of {len(names)} checkpoints")
    for task, dataset, metric, width, count, observed, basis in table:
        what = f"{task} {dataset} {metric}"
        print(f"  {what:<45} width {width} ({basis}), {count} pairs, spread {observed}")


def _test_size(name: str, *, crop: float, interpolation: str) -> int | None:
    """Size timm tests a checkpoint of 1,000 classes at; none where crop or filter differ."""
    config = _config(name)
    if config is None or config.num_classes != 1000:
        return None
    data = resolve_data_config(pretrained_cfg=config.to_dict(), use_test_size=True)
    same = abs(data["crop_pct"] - crop) < 5e-4 and data["interpolation"] == interpolation
    return int(data["input_size"][-1]) if same else None


def _config(name: str) -> timm.models.PretrainedCfg | None:
    """Timm's own facts of a checkpoint; none for one that it does not hold."""
    if not timm.is_model(name.split(".")[0]):
        return None
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        return None


def _imagenet_statistics(config: timm.models.PretrainedCfg) -> bool:
    return config.mean == IMAGENET_DEFAULT_MEAN and config.std == IMAGENET_DEFAULT_STD


def _keys(rows: Iterable[Row]) -> dict[str, str]:
    """Catalog key by timm name, by address of a file, or by name on torch.hub."""
    keys = {}
    for row in rows:
        if row["timm_name"]:
            keys[row["timm_name"]] = row["key"]
            continue
        for address in re.findall(r"https://\S+?\.(?:pth\.tar|pth|pt|ckpt)", row["note"]):
            keys[address] = row["key"]
        for repository, name in re.findall(r"torch\.hub ([\w/]+):main (\w+)", row["note"]):
            keys[f"torchhub:{repository}:{name}"] = row["key"]
    return keys


def _fraction(row: Row) -> float:
    return float(row["value"]) / (100 if row["unit"] == "percent" else 1)


def _source(row: Row) -> tuple[str, str, str]:
    return row["source_repo"], row["source_path"], row["source_commit"]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with (TARGET / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
