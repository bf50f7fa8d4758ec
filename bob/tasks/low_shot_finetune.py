"""Fine-tuning on 1 % and 10 % of the train split. Source: the paper's ``train_semi.py``.

The draws are fixed and shared by everybody; initialisation and order follow the seed.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace

import torch
from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Progress
from bob.datasets import AnySplit, ClassificationData
from bob.datasets.subsets import low_shot_draws
from bob.tasks.base import TaskOutput
from bob.tasks.draws import draw_files, draw_metrics
from bob.tasks.recipes import LowShotFinetuneRecipe
from bob.tasks.scores import top_k
from bob.training.classifier import Classifier
from bob.training.data import ScoringBatches, train_batches
from bob.training.loop import Emit, Loop


def run(
    case: Case,
    backbone: Backbone,
    data: ClassificationData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Fine-tune the backbone anew on every draw and score it on test after the last epoch.

    Returns:
        ``top1``, the mean over shares and draws; for each share ``top1_<share>`` and its
        ``spread_<share>`` over the draws; the draws as files.
    """
    recipe = case.recipe
    assert isinstance(recipe, LowShotFinetuneRecipe)
    started = time.perf_counter()
    draws = low_shot_draws(
        data.train.targets,
        data.class_names,
        shots=(),
        fractions=recipe.fractions,
        draws=recipe.draws,
    )
    images = ScoringBatches(data.test, backbone, context.workers)
    scores: dict[str, list[float]] = {}
    remarks: dict[str, None] = {}
    evaluate_seconds = 0.0
    for setting, picks in draws.items():
        scores[setting] = []
        for draw, rows in enumerate(picks):
            part = data.train.part(rows)
            loop = _train(
                case,
                backbone,
                part,
                draw,
                classes=len(data.class_names),
                fabric=fabric,
                context=context,
                emit=emit,
            )
            remarks |= dict.fromkeys(part.remarks)
            start = time.perf_counter()
            emit(Progress(phase="evaluate", epoch=draw, epochs=len(picks)))
            scores[setting].append(top_k(loop.predict(images), data.test.targets))
            evaluate_seconds += time.perf_counter() - start
    train_seconds = time.perf_counter() - started - evaluate_seconds
    return TaskOutput(
        metrics=draw_metrics(scores),
        timings={"train": train_seconds, "evaluate": evaluate_seconds},
        files=draw_files(scores, draws, data),
        remarks=(*remarks, *data.test.remarks),
    )


def _train(
    case: Case,
    backbone: Backbone,
    part: AnySplit,
    draw: int,
    *,
    classes: int,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> Loop:
    """A copy of the backbone, trained on one draw."""
    recipe = case.recipe
    assert isinstance(recipe, LowShotFinetuneRecipe)
    updates = max(1, len(part) // min(recipe.batch_size, len(part)))
    epochs = max(recipe.epochs, math.ceil(recipe.least_updates / updates))
    recipe = recipe.model_copy(update={"epochs": epochs})
    torch.manual_seed(case.seed * 1000 + draw)
    fresh = replace(backbone, module=copy.deepcopy(backbone.module))
    loop = Loop(
        model=Classifier(fresh, classes),
        recipe=recipe,
        fabric=fabric,
        batches=train_batches(
            part,
            recipe,
            fresh,
            device=fabric.device,
            workers=context.workers,
            seed=case.seed * 1000 + draw,
        ),
        classes=classes,
        emit=emit,
    )
    for epoch in range(epochs):
        loop.epoch(epoch)
    return loop
