"""Object detection and instance segmentation, fine-tuned or on a frozen backbone.

Source: the configurations of hsouri/bob-detection. No choice is made on the test split: the
detector after the last update is scored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import DetectionData
from bob.detection.data import TrainBatches
from bob.detection.engine import build_detector
from bob.detection.evaluate import DetectionScores, chance_bound, detections_json, evaluate
from bob.detection.loop import DetectionLoop
from bob.detection.records import Detections
from bob.references.judge import CHANCE_BOUND
from bob.report.detections import detection_picture, per_class_csv, pr_picture
from bob.tasks.base import TaskOutput
from bob.tasks.detection_recipe import DetectionRecipe
from bob.training.loop import Emit


def run(
    case: Case,
    backbone: Backbone,
    data: DetectionData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Train a detector on the backbone and score it on the test split.

    Returns:
        ``box_ap`` and ``mask_ap`` over IoU 0.5 to 0.95, each also at 0.5 and 0.75 and by size, as
        fractions; ``train_loss``, the mean of the last epoch; every detection, scores per class,
        precision-recall curves and some images as files.
    """
    loop = trained(case, backbone, data.train, fabric=fabric, context=context, emit=emit)
    start = time.perf_counter()
    found = loop.detect(data.test, workers=loader_workers(case, context))
    recipe = detection_recipe(case)
    scores = scored(recipe, data.test, found)
    return TaskOutput(
        metrics={
            **scores.metrics,
            **training_metrics(loop),
            CHANCE_BOUND: chance_bound(data.test, found, max_detections=recipe.max_detections),
        },
        history=tuple(loop.history),
        timings={"train": loop.train_seconds, "evaluate": time.perf_counter() - start},
        files=detection_files(case, data.test, found, scores),
        remarks=(*data.train.remarks, *data.test.remarks),
    )


def detection_recipe(case: Case) -> DetectionRecipe:
    """The case's recipe, of the type it has."""
    assert isinstance(case.recipe, DetectionRecipe)
    return case.recipe


def trained(
    case: Case,
    backbone: Backbone,
    train: CocoSplit,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> DetectionLoop:
    """A detector on the backbone, trained as the case says."""
    recipe = detection_recipe(case)
    detector = build_detector(backbone, recipe, len(train.class_names))
    batches = TrainBatches(train, recipe, workers=loader_workers(case, context), seed=case.seed)
    loop = DetectionLoop(detector, recipe, fabric, batches, emit)
    loop.run()
    return loop


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
        "micro_batches": float(loop.micro_batches),
    }


def detection_files(
    case: Case,
    split: CocoSplit,
    found: tuple[Detections, ...],
    scores: DetectionScores,
    *,
    name: str = "",
) -> dict[str, bytes]:
    """Detections, scores per class and pictures; ``name`` goes before every file's name."""
    masks = detection_recipe(case).masks
    text = f"box AP {scores.metrics['box_ap']:.3f}"
    if masks:
        text += f", mask AP {scores.metrics['mask_ap']:.3f}"
    return {
        f"{name}detections.json": detections_json(split, found),
        f"{name}per_class.csv": per_class_csv(scores),
        f"{name}detections.png": detection_picture(
            case, split, found, masks=masks, score_text=text
        ),
        f"{name}precision_recall.png": pr_picture(case, scores.curves, scores.metrics),
    }


def loader_workers(case: Case, context: Context) -> int:
    """Loader processes cost more than they bring where nothing is augmented."""
    return 0 if detection_recipe(case).augmentation == "none" else context.workers
