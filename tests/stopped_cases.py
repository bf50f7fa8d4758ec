"""Small cases that are stopped and go on, and what of two results has to be the same."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bob import interrupts
from bob.case import Case, Context, Progress, Result
from bob.catalog import Catalog, load_catalog
from bob.catalog.schema import DatasetEntry
from bob.datasets import ImageSplit, MultilabelData, scenes
from bob.datasets.detection import DetectionShift, DetectionShiftData
from bob.datasets.folder import load as load_folder
from bob.plan import Plan, Selection
from bob.protocols.finetune_multilabel import MultilabelRecipe
from bob.protocols.grid import Grid, RateGrid
from bob.run import run_case
from tests.photos import write_photos

TIMED = ("images_per_second", "images_extracted", "images_reused")
"""Metrics of time, and of what was found in the feature store."""

AUGMENTED = {
    "epochs": 3, "batch_size": 24, "warmup_epochs": 1, "mixup": 0.8, "cutmix": 1.0,
    "rand_augment": "rand-m9-mstd0.5-inc1", "color_jitter": 0.4, "crop_scale": 0.3, "hflip": 0.5,
    "random_erase": 0.5, "label_smoothing": 0.1,
}  # fmt: skip

Stop = Callable[[Progress], bool]


def photographs(folder: Path) -> Path:
    """A folder of 108 and 24 photographs, of which one to learn from cannot be read."""
    write_photos(folder / "train", 36)
    write_photos(folder / "test", 8, first=500)
    spoiled = folder / "train" / "red" / "003.png"
    spoiled.write_bytes(spoiled.read_bytes()[:60])
    return folder


def several_labels(path: str) -> MultilabelData:
    """The photographs, each with its class and a second label that every third has."""
    data = load_folder(path=path)

    def labelled(split: Any) -> ImageSplit:
        rows = torch.arange(len(split))
        both = torch.stack([split.targets == 0, rows % 3 == 0], dim=1)
        return replace(split, targets=both.float())

    return MultilabelData(
        sha256=data.sha256,
        class_names=("first", "third"),
        train=labelled(data.train),
        test=labelled(data.test),
    )


def case_of(task: str, folder: Path, **recipe: Any) -> Case:
    """A case of photographs under an augmented recipe."""
    catalog = load_catalog()
    spec = f"folder:{folder}"
    (case,) = Plan(catalog, _selection(spec)).cases("finetune" if "multi" in task else task)
    if task == "finetune_multilabel":
        entry = DatasetEntry(
            key="labels", kind="multilabel", sha256=None, options={"path": str(folder)},
            loader="tests.stopped_cases:several_labels",
        )  # fmt: skip
        case = replace(
            case, task=task, dataset=entry,
            recipe=MultilabelRecipe(image_size=32, drop_path=0.0, layer_decay=1.0),
        )  # fmt: skip
    return replace(case, recipe=case.recipe.model_copy(update=recipe))


def detection_case(catalog: Catalog, task: str, engine: str = "torchvision", **recipe: Any) -> Case:
    """A case of sixteen scenes."""
    case = next(
        case
        for case in Plan(catalog, Selection(engine=engine)).cases(task)
        if case.backbone.key == "resnet_micro_glyphs"
    )
    changes: dict[str, Any] = {"sha256": None, "test_size": None, "train_size": None}
    if task == "ood_detection":
        changes["loader"] = "tests.stopped_cases:few_shifted_scenes"
    else:
        changes["options"] = {**case.dataset.options, "train": 16, "test": 8}
    dataset = case.dataset.model_copy(update=changes)
    return replace(case, dataset=dataset, recipe=case.recipe.model_copy(update=recipe))


def few_shifted_scenes() -> DetectionShiftData:
    """Printed scenes to learn from, handwritten ones as the shift."""
    source, target = (
        scenes.load(glyphs=glyphs, train=16, test=8) for glyphs in ("printed", "handwritten")
    )
    return DetectionShiftData(
        sha256=source.sha256,
        class_names=source.class_names,
        train=source.train,
        test=source.test,
        shifts=(DetectionShift(name="handwritten", split=target.test),),
    )


def _selection(spec: str) -> Selection:
    return Selection(backbones=("resnet_micro_random",), datasets=(spec,))


def grid_of(case: Case, *rates: float) -> Case:
    """The case with a grid of learning rates."""
    grid = (
        Grid(lr=rates, weight_decay=(0.05,), holdout=0.3)
        if case.task == "finetune" or "low" in case.task
        else RateGrid(lr=rates, holdout=0.3)
    )
    return replace(case, recipe=case.recipe.model_copy(update={"grid": grid}))


def context(folder: Path, **options: Any) -> Context:
    """Checkpoints at every step."""
    settings = {"checkpoints": str(folder), "workers": 0, "checkpoint_minutes": 0.0}
    return Context(accelerator="cpu", **{**settings, **options})


def stop(case: Case, how: Context, when: Stop) -> list[Progress]:
    """Run a case and interrupt it; returns what it told."""
    told: list[Progress] = []

    def emit(progress: Progress) -> None:
        told.append(progress)
        if when(progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_case(case, how, emit)
    for process in multiprocessing.active_children():  # as the end of this process would
        process.kill()
    return told


def go_on(case: Case, how: Context) -> tuple[Result, list[Progress]]:
    """Run a case that was stopped; returns what came out and what it told."""
    told: list[Progress] = []
    result = run_case(case, replace(how, resume=True), told.append)
    assert result.failure is None, result.failure
    assert any("went on from a checkpoint" in remark for remark in result.remarks), result.remarks
    return result, told


def facts(result: Result) -> dict[str, Any]:
    """What of a result has to be the same to the last digit."""
    assert result.failure is None, result.failure
    outcomes = vars(result.outcomes) if result.outcomes is not None else {}
    given = result.contributions
    detections = vars(result.detections) if result.detections is not None else {}
    return {
        "contributions": (given.values.tolist(), given.lists) if given is not None else None,
        "metrics": {name: v for name, v in result.metrics.items() if name not in TIMED},
        "history": [dict(values) for values in result.history],
        "outcomes": {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in (outcomes | detections).items()
        },
        "trials": [replace(trial, seconds=0.0) for trial in result.trials],
        "tables": {
            name: content
            for name, content in result.files.items()
            if name.endswith((".csv", ".json"))
        },
        "remarks": [
            text for text in result.remarks if "went on from" not in text and " left " not in text
        ],
        "run_key": result.run_key,
    }


def _slowly(progress: Progress) -> None:
    print(progress.phase, progress.epoch, progress.step, flush=True)
    if progress.phase == "train":
        time.sleep(0.6)  # longer than steps are left untold


if __name__ == "__main__":  # a process that is ended while its case trains
    interrupts.install()
    _, photos, folder, minutes, workers = sys.argv
    try:
        run_case(
            case_of("finetune", Path(photos), **AUGMENTED),
            context(Path(folder), checkpoint_minutes=float(minutes), workers=int(workers)),
            _slowly,
        )
    except KeyboardInterrupt:
        raise SystemExit(75 if interrupts.terminated() else 2) from None
