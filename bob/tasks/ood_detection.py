"""Detection under shift: learnt on a source, read on targets of other make.

Source: hsouri/bob-ood-detection (Sim10k to Cityscapes).
"""

from __future__ import annotations

import time
from statistics import fmean

from bob.backbones import Backbone
from bob.case import Content
from bob.case.detections import joined
from bob.datasets.detection import DetectionShiftData
from bob.detection.evaluate import chance_bound
from bob.hashing import own_file_name
from bob.job import Job, TaskOutput
from bob.protocols.chance import CHANCE_BOUND
from bob.protocols.ood_detection import ShiftedDetectionRecipe
from bob.tasks._detecting import (
    detection_files,
    loader_workers,
    scored,
    trained,
    training_metrics,
    training_remarks,
)
from bob.training.search import chosen_metrics, grid_files, grid_remarks


def run(job: Job[ShiftedDetectionRecipe, DetectionShiftData, Backbone]) -> TaskOutput:
    """Train a detector on the source and read it on every target.

    Returns:
        ``shifted_box_ap``, the mean over targets, and ``shift/<target>``; ``box_ap`` on the
        source's test split and ``gap``, what is lost, where it has one; ``train_loss``.
    """
    recipe, data = job.recipe, job.data
    workers = loader_workers(job)
    loop, trials = trained(job)
    start = time.perf_counter()
    metrics: dict[str, float] = {**training_metrics(loop), **chosen_metrics(trials)}
    files: dict[str, Content] = {**grid_files(trials)}
    bounds, outcomes = [], []
    for shift in data.shifts:
        found = loop.detect(shift.split, workers=workers)
        scores = scored(recipe, shift.split, found)
        metrics[f"shift/{shift.name}"] = scores.metrics["box_ap"]
        outcomes.append(scores.outcomes)
        bounds.append(chance_bound(shift.split, found, max_detections=recipe.max_detections))
        files |= detection_files(
            job.case,
            shift.split,
            found,
            scores,
            masks=recipe.masks,
            name=f"{own_file_name(shift.name)}_",
        )
    shifted = fmean(metrics[f"shift/{shift.name}"] for shift in data.shifts)
    metrics |= {"shifted_box_ap": shifted, CHANCE_BOUND: fmean(bounds)}
    if data.test is not None:
        own = scored(recipe, data.test, loop.detect(data.test, workers=workers))
        metrics |= {"box_ap": own.metrics["box_ap"], "gap": own.metrics["box_ap"] - shifted}
    remarks = [
        *data.train.remarks,
        *(text for shift in data.shifts for text in shift.split.remarks),
    ]
    return TaskOutput(
        metrics=metrics,
        history=tuple(loop.history),
        detections=joined([part for part in outcomes if part]) if all(outcomes) else None,
        timings={"train": loop.train_seconds, "evaluate": time.perf_counter() - start},
        files=files,
        remarks=(*remarks, *training_remarks(job, loop), *grid_remarks(recipe.grid, trials)),
        trials=trials,
    )
