"""Fine-tuning on 1 % and 10 % of the train split. Source: the paper's ``train_semi.py``.

The draws are fixed and shared by everybody; initialisation and order follow the seed. Where the
recipe has a grid, each draw chooses for itself, on held-out images of its own.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch

from bob.artifacts.draws import draw_files
from bob.backbones import Backbone
from bob.case import Progress, Trial
from bob.datasets import ClassificationData
from bob.datasets.subsets import Indices, low_shot_draws
from bob.job import Job, TaskOutput
from bob.metrics.draws import DrawScore, draw_metrics, score_draw
from bob.protocols.low_shot_finetune import LowShotFinetuneRecipe
from bob.tasks._classifying import FinetuneJob, make_loop, search
from bob.training.data import ScoringBatches
from bob.training.search import chosen_metrics, grid_files, grid_remarks

LowShotJob = Job[LowShotFinetuneRecipe, ClassificationData, Backbone]


def run(job: LowShotJob) -> TaskOutput:
    """Fine-tune the backbone anew on every draw and score it on test after the last epoch.

    Returns:
        ``top1``, the mean over shares and draws; for each share ``top1_<share>`` and its
        ``spread_<share>`` over the draws; calibration as means over shares and draws, of which a
        temperature only with a grid; how batches were split, the most of all draws; the draws as
        files; the tried settings of a grid.

    Raises:
        TrainingDiverged: The loss is no longer finite, of a grid under every setting.
    """
    recipe, data = job.recipe, job.data
    started = time.perf_counter()
    draws = low_shot_draws(
        data.train.targets,
        data.class_names,
        shots=(),
        fractions=recipe.fractions,
        draws=recipe.draws,
    )
    images = ScoringBatches(data.test, job.backbone, job.workers)
    scores: dict[str, list[DrawScore]] = {}
    remarks: dict[str, None] = {}
    evaluate_seconds = 0.0
    split: dict[str, float] = {}
    trials: tuple[Trial, ...] = ()
    for setting, picks in draws.items():
        scores[setting] = []
        for draw, rows in enumerate(picks):
            part = _of_draw(job, draw, rows)
            torch.manual_seed(part.seed)
            part, tried = search(part, group=f"{setting} draw {draw}")
            loop = make_loop(replace(part, backbone=job.backbone.copied()))
            for epoch in range(part.recipe.epochs):
                loop.epoch(epoch)
            for name, parts in loop.split_metrics.items():
                split[name] = max(parts, split.get(name, 0.0))
            trials += tried
            remarks |= dict.fromkeys((*part.data.train.remarks, *loop.remarks))
            start = time.perf_counter()
            job.emit(Progress(phase="evaluate", epoch=draw, epochs=len(picks)))
            scores[setting].append(
                score_draw(
                    loop.predict(images),
                    data.test.targets,
                    data.class_names,
                    temperature=chosen_metrics(tried).get("grid_val_temperature"),
                )
            )
            evaluate_seconds += time.perf_counter() - start
    train_seconds = time.perf_counter() - started - evaluate_seconds
    return TaskOutput(
        metrics={**draw_metrics(scores), **split},
        timings={"train": train_seconds, "evaluate": evaluate_seconds},
        files={**draw_files(scores, draws, data), **grid_files(trials)},
        remarks=(
            *remarks,
            *data.test.remarks,
            *job.backbone.training_remarks,
            *grid_remarks(recipe.grid, trials),
        ),
        trials=trials,
    )


def _of_draw(job: LowShotJob, draw: int, rows: Indices) -> FinetuneJob:
    """The training of one draw: its images, a seed of its own, and enough epochs."""
    recipe = job.recipe
    updates = max(1, len(rows) // min(recipe.batch_size, len(rows)))
    epochs = max(recipe.epochs, math.ceil(recipe.least_updates / updates))
    return replace(
        job,
        recipe=recipe.model_copy(update={"epochs": epochs}),
        data=replace(job.data, train=job.data.train.part(rows)),
        seed=job.seed * 1000 + draw,
    )
