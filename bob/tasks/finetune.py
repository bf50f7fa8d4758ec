"""End-to-end fine-tuning. Source: the paper's ``train.py`` (hsouri/bob-classification).

Every weight is trained. The judged score is the last epoch's top-1 on the test split, on which no
choice is made; the paper reports the best epoch on the split it watches, recorded as ``best_top1``.
Where the recipe has a grid, its settings are tried on held-out train images first.
Where the dataset has shifted targets, the model of the last epoch is read on them too, as the
paper's fine-tuned ImageNet checkpoints are (hsouri/bob-ood-classification).
"""

from __future__ import annotations

import time

import torch

from bob.artifacts.shift import shift_files
from bob.case import Content
from bob.datasets import ShiftData
from bob.job import TaskOutput
from bob.metrics.classification import classification_metrics, outcomes
from bob.metrics.shift import ShiftScore, score_shift, shift_contributions, shift_metrics
from bob.tasks._classifying import FinetuneJob, make_loop, search
from bob.training.data import ScoringBatches
from bob.training.epochs import train_and_score, training_metrics
from bob.training.loop import Loop
from bob.training.search import chosen_metrics, grid_files, grid_remarks


def run(job: FinetuneJob) -> TaskOutput:
    """Fine-tune the backbone and score it after each epoch.

    Returns:
        ``top1``, ``top5`` and ``test_loss`` of the last epoch, ``best_top1`` and ``best_epoch``
        (counted from 1), and ``images_per_second`` of training; the tried settings of a grid. With
        shifts, what ``ood`` gives of them besides (``shifted_top1``, ``gap``, ``shift/<group>``,
        ...).

    Raises:
        TrainingDiverged: The loss is no longer finite, of a grid under every setting.
    """
    data = job.data
    start = time.perf_counter()
    chosen, trials = search(job)
    searched = time.perf_counter() - start
    loop = make_loop(chosen)
    trained = train_and_score(
        loop,
        ScoringBatches(data.test, job.backbone, job.workers, job.group),
        lambda logits: classification_metrics(logits, data.test.targets),
    )
    metrics = {
        **trained.metrics("top1", "top5", "test_loss", "train_loss", best="best_top1"),
        **training_metrics(loop),
        **chosen_metrics(trials),
    }
    start = time.perf_counter()
    files: dict[str, Content] = {**grid_files(trials)}
    shifts = _shifts(job, loop, trained.logits)
    evaluated = trained.evaluate_seconds + time.perf_counter() - start
    if shifts:
        metrics |= shift_metrics(shifts, metrics["top1"], len(data.test), job.case.dataset.baseline)
        files |= shift_files(job.case, shifts)
    return TaskOutput(
        metrics=metrics,
        history=trained.history,
        outcomes=outcomes(
            trained.logits,
            data.test.targets,
            data.class_names,
            temperature=chosen_metrics(trials).get("grid_val_temperature"),
        ),
        contributions=shift_contributions(shifts, data.test.targets) if shifts else None,
        timings={
            **({"search": searched} if trials else {}),
            "train": loop.train_seconds,
            "evaluate": evaluated,
        },
        files=files,
        remarks=(
            *data.train.remarks,
            *data.test.remarks,
            *(text for score in shifts for text in score.shift.split.remarks),
            *job.backbone.training_remarks,
            *loop.remarks,
            *grid_remarks(job.recipe.grid, trials),
        ),
        trials=trials,
    )


def _shifts(job: FinetuneJob, loop: Loop, logits: torch.Tensor) -> list[ShiftScore]:
    """The trained model on every shifted target; nothing where the dataset has none."""
    data = job.data
    if not isinstance(data, ShiftData):
        return []
    return [
        score_shift(
            shift,
            loop.predict(ScoringBatches(shift.split, job.backbone, job.workers, job.group)),
            logits,
            data.test.targets,
        )
        for shift in data.shifts
    ]
