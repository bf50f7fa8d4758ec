"""Training a detector and telling what it found, as every detection protocol does.

Source: the configurations of hsouri/bob-detection. No choice is made on the test split: the
detector after the last update is scored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from bob.artifacts.detections import detection_picture, per_class_csv, pr_picture
from bob.backbones import Backbone
from bob.case import Case, Content, Emit, Trial
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import DetectionData, DetectionShiftData
from bob.detection.data import TrainBatches
from bob.detection.engine import build_detector
from bob.detection.evaluate import DetectionScores, chance_bound, detections_json, evaluate
from bob.detection.loop import DetectionLoop
from bob.detection.records import Detections
from bob.job import Job, TaskOutput
from bob.protocols.chance import CHANCE_BOUND
from bob.protocols.detection import DetectionRecipe
from bob.protocols.grid import RateGrid
from bob.training.remembered import remembered
from bob.training.search import (
    choose,
    chosen_metrics,
    grid_files,
    grid_remarks,
    split_for_choice,
)

AnyDetectionJob = Job[DetectionRecipe, DetectionData | DetectionShiftData, Backbone]


def train_and_test(job: Job[DetectionRecipe, DetectionData, Backbone]) -> TaskOutput:
    """Train a detector on the backbone and score it on the test split.

    Returns:
        ``box_ap`` and ``mask_ap`` over IoU 0.5 to 0.95, each also at 0.5 and 0.75 and by size, as
        fractions; ``train_loss``, the mean of the last epoch; every detection, scores per class,
        precision-recall curves and some images as files.
    """
    recipe, data = job.recipe, job.data
    loop, trials = trained(job)
    start = time.perf_counter()
    found = loop.detect(data.test, workers=loader_workers(job))
    scores = scored(recipe, data.test, found)
    return TaskOutput(
        metrics={
            **scores.metrics,
            **training_metrics(loop),
            **chosen_metrics(trials),
            CHANCE_BOUND: chance_bound(data.test, found, max_detections=recipe.max_detections),
        },
        history=tuple(loop.history),
        detections=scores.outcomes,
        timings={"train": loop.train_seconds, "evaluate": time.perf_counter() - start},
        files={
            **detection_files(job.case, data.test, found, scores, masks=recipe.masks),
            **grid_files(trials),
        },
        remarks=(
            *data.train.remarks,
            *data.test.remarks,
            *training_remarks(job, loop),
            *grid_remarks(recipe.grid, trials),
        ),
        trials=trials,
    )


def trained(job: AnyDetectionJob) -> tuple[DetectionLoop, tuple[Trial, ...]]:
    """A detector on the backbone, trained as the job says, and the settings of a grid."""
    recipe, train = job.recipe, job.data.train
    grid = recipe.grid
    if grid is None:
        return _train_on(job, train), ()
    recipe, trials = choose(
        recipe,
        grid,
        lambda tried, checkpoint: _held_out_scores(
            replace(job, recipe=tried, checkpoint=checkpoint), grid
        ),
        score="val_box_ap",
        emit=job.emit,
        checkpoint=job.checkpoint,
    )
    return _train_on(replace(job, recipe=recipe), train), trials


def training_remarks(job: AnyDetectionJob, loop: DetectionLoop) -> tuple[str, ...]:
    """What there is to know of how backbone and heads were trained."""
    return (*(() if job.recipe.frozen else job.backbone.training_remarks), *loop.remarks)


def _train_on(job: AnyDetectionJob, split: CocoSplit) -> DetectionLoop:
    detector = build_detector(job.backbone, job.recipe, job.classes)
    batches = TrainBatches(
        split, job.recipe, workers=loader_workers(job), seed=job.seed, group=job.group
    )
    loop = DetectionLoop(
        detector,
        job.recipe,
        job.fabric,
        batches,
        job.emit,
        job.checkpoint,
        counts=partial(remembered, job),
        group=job.group,
    )
    loop.run()
    return loop


def _held_out_scores(job: AnyDetectionJob, grid: RateGrid) -> dict[str, float]:
    """Train a copy of the backbone on a part of the train split and score it on the rest."""
    train = job.data.train
    fit, rest = split_for_choice(train.strata(), grid)
    choice = train.part(rest.tolist())
    attempt = replace(job, backbone=job.backbone.copied(), emit=_without_metrics(job.emit))
    loop = _train_on(attempt, train.part(fit.tolist()))
    scores = scored(job.recipe, choice, loop.detect(choice, workers=loader_workers(job)))
    return {
        "val_box_ap": scores.metrics["box_ap"],
        "train_loss": loop.history[-1]["train_loss"],
    }


def _without_metrics(emit: Emit) -> Emit:
    """The epochs of a tried setting are not the case's."""
    return lambda progress: emit(replace(progress, phase="train", metrics={}))


def scored(
    recipe: DetectionRecipe, split: CocoSplit, found: tuple[Detections, ...]
) -> DetectionScores:
    """COCO's metrics under the recipe's limits."""
    return evaluate(
        split,
        found,
        masks=recipe.masks,
        area_limits=recipe.area_limits,
        max_detections=recipe.max_detections,
    )


def training_metrics(loop: DetectionLoop) -> Mapping[str, float]:
    """What training itself tells."""
    return {
        "train_loss": loop.history[-1]["train_loss"],
        "images_per_second": loop.images_seen / max(loop.train_seconds, 1e-9),
        **loop.split_metrics,
    }


def detection_files(
    case: Case,
    split: CocoSplit,
    found: tuple[Detections, ...],
    scores: DetectionScores,
    *,
    masks: bool,
    name: str = "",
) -> dict[str, Content]:
    """Detections, scores per class and pictures; ``name`` goes before every file's name."""
    text = f"box AP {scores.metrics['box_ap']:.3f}"
    if masks:
        text += f", mask AP {scores.metrics['mask_ap']:.3f}"
    return {
        f"{name}detections.json": lambda: detections_json(split, found),
        f"{name}per_class.csv": lambda: per_class_csv(scores),
        f"{name}detections.png": lambda: detection_picture(
            case, split, found, masks=masks, score_text=text
        ),
        f"{name}precision_recall.png": lambda: pr_picture(case, scores.curves, scores.metrics),
    }


def loader_workers(job: AnyDetectionJob) -> int:
    """Loader processes cost more than they bring where nothing is augmented."""
    return 0 if job.recipe.augmentation == "none" else job.workers
