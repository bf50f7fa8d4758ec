"""Detection under shift: learnt on a source, read on targets of other make.

Source: hsouri/bob-ood-detection (Sim10k to Cityscapes).
"""

from __future__ import annotations

import time
from statistics import fmean

from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Emit
from bob.datasets.detection import DetectionShiftData
from bob.detection.evaluate import chance_bound
from bob.protocols.chance import CHANCE_BOUND
from bob.tasks.detection import (
    detection_files,
    detection_recipe,
    loader_workers,
    scored,
    trained,
    training_metrics,
    trial_remarks,
)
from bob.tasks.output import TaskOutput
from bob.training.search import chosen_metrics, grid_files


def run(
    case: Case,
    backbone: Backbone,
    data: DetectionShiftData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Train a detector on the source and read it on every target.

    Returns:
        ``shifted_box_ap``, the mean over targets, and ``shift/<target>``; ``box_ap`` on the
        source's test split and ``gap``, what is lost, where it has one; ``train_loss``.
    """
    recipe = detection_recipe(case)
    workers = loader_workers(case, context)
    loop, trials = trained(case, backbone, data.train, fabric=fabric, context=context, emit=emit)
    start = time.perf_counter()
    metrics: dict[str, float] = {**training_metrics(loop), **chosen_metrics(trials)}
    files: dict[str, bytes] = grid_files(trials) if trials else {}
    bounds = []
    for shift in data.shifts:
        found = loop.detect(shift.split, workers=workers)
        scores = scored(recipe, shift.split, found)
        metrics[f"shift/{shift.name}"] = scores.metrics["box_ap"]
        bounds.append(chance_bound(shift.split, found, max_detections=recipe.max_detections))
        files |= detection_files(case, shift.split, found, scores, name=f"{shift.name}_")
    shifted = fmean(metrics[f"shift/{shift.name}"] for shift in data.shifts)
    metrics |= {"shifted_box_ap": shifted, CHANCE_BOUND: fmean(bounds)}
    if data.test is not None:
        own = scored(recipe, data.test, loop.detect(data.test, workers=workers))
        metrics |= {"box_ap": own.metrics["box_ap"], "gap": own.metrics["box_ap"] - shifted}
    remarks = [*data.train.remarks, *(text for one in data.shifts for text in one.split.remarks)]
    return TaskOutput(
        metrics=metrics,
        history=tuple(loop.history),
        timings={"train": loop.train_seconds, "evaluate": time.perf_counter() - start},
        files=files,
        remarks=(*remarks, *trial_remarks(recipe, trials)),
        trials=trials,
    )
