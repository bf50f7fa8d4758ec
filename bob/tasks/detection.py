"""Object detection and instance segmentation, fine-tuned or on a frozen backbone.

Source: the configurations of hsouri/bob-detection. No choice is made on the test split: the
detector after the last update is scored.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lightning_fabric import Fabric

from bob.artifacts.detections import detection_picture, per_class_csv, pr_picture
from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Trial
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import DetectionData
from bob.detection.data import TrainBatches
from bob.detection.engine import build_detector
from bob.detection.evaluate import DetectionScores, chance_bound, detections_json, evaluate
from bob.detection.loop import DetectionLoop
from bob.detection.records import Detections
from bob.protocols.chance import CHANCE_BOUND
from bob.protocols.detection import DetectionRecipe
from bob.tasks.output import TaskOutput
from bob.training.search import (
    choose,
    chosen_metrics,
    grid_files,
    grid_remarks,
    split_for_choice,
)


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
    loop, trials = trained(case, backbone, data.train, fabric=fabric, context=context, emit=emit)
    start = time.perf_counter()
    found = loop.detect(data.test, workers=loader_workers(case, context))
    recipe = detection_recipe(case)
    scores = scored(recipe, data.test, found)
    return TaskOutput(
        metrics={
            **scores.metrics,
            **training_metrics(loop),
            **chosen_metrics(trials),
            CHANCE_BOUND: chance_bound(data.test, found, max_detections=recipe.max_detections),
        },
        history=tuple(loop.history),
        timings={"train": loop.train_seconds, "evaluate": time.perf_counter() - start},
        files={
            **detection_files(case, data.test, found, scores),
            **(grid_files(trials) if trials else {}),
        },
        remarks=(*data.train.remarks, *data.test.remarks, *trial_remarks(recipe, trials)),
        trials=trials,
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
) -> tuple[DetectionLoop, tuple[Trial, ...]]:
    """A detector on the backbone, trained as the case says, and the settings of a grid."""
    recipe = detection_recipe(case)
    workers = loader_workers(case, context)

    def train_on(
        split: CocoSplit, under: DetectionRecipe, module: Backbone, listen: Emit
    ) -> DetectionLoop:
        detector = build_detector(module, under, len(train.class_names))
        batches = TrainBatches(split, under, workers=workers, seed=case.seed)
        loop = DetectionLoop(detector, under, fabric, batches, listen)
        loop.run()
        return loop

    trials: tuple[Trial, ...] = ()
    if (grid := recipe.grid) is not None:
        fit, rest = split_for_choice(train.strata(), grid)
        part, choice = train.part(fit.tolist()), train.part(rest.tolist())

        def attempt(under: DetectionRecipe) -> dict[str, float]:
            copied = replace(backbone, module=copy.deepcopy(backbone.module))
            loop = train_on(part, under, copied, _without_metrics(emit))
            scores = scored(under, choice, loop.detect(choice, workers=workers))
            return {
                "val_box_ap": scores.metrics["box_ap"],
                "train_loss": loop.history[-1]["train_loss"],
            }

        recipe, trials = choose(recipe, grid, attempt, score="val_box_ap", emit=emit)
    return train_on(train, recipe, backbone, emit), trials


def _without_metrics(emit: Emit) -> Emit:
    """The epochs of a tried setting are not the case's."""
    return lambda progress: emit(replace(progress, phase="train", metrics={}))


def trial_remarks(recipe: DetectionRecipe, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What a reader should know of the choice, where there was one."""
    return grid_remarks(recipe.grid, trials) if recipe.grid is not None else ()


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
