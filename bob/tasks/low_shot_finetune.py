"""Fine-tuning on 1 % and 10 % of the train split. Source: the paper's ``train_semi.py``.

The draws are fixed and shared by everybody; initialisation and order follow the seed. Where the
recipe has a grid, each draw chooses for itself, on held-out images of its own.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from functools import partial

import torch
from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Progress, Trial
from bob.datasets import AnySplit, ClassificationData
from bob.datasets.subsets import low_shot_draws
from bob.metrics.classification import top_k
from bob.protocols.low_shot_finetune import LowShotFinetuneRecipe
from bob.tasks.draws import draw_files, draw_metrics
from bob.tasks.finetune import held_out_scores, make_loop
from bob.tasks.output import TaskOutput
from bob.training.data import ScoringBatches
from bob.training.loop import Loop
from bob.training.search import choose, grid_files, grid_remarks


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
        ``spread_<share>`` over the draws; the draws as files; the tried settings of a grid.

    Raises:
        TrainingDiverged: The loss is no longer finite, of a grid under every setting.
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
    trials: tuple[Trial, ...] = ()
    for setting, picks in draws.items():
        scores[setting] = []
        for draw, rows in enumerate(picks):
            part = data.train.part(rows)
            loop, tried = _train(
                case, backbone, part, draw, group=f"{setting} draw {draw}",
                classes=len(data.class_names), fabric=fabric, context=context, emit=emit,
            )  # fmt: skip
            trials += tried
            remarks |= dict.fromkeys(part.remarks)
            start = time.perf_counter()
            emit(Progress(phase="evaluate", epoch=draw, epochs=len(picks)))
            scores[setting].append(top_k(loop.predict(images), data.test.targets))
            evaluate_seconds += time.perf_counter() - start
    train_seconds = time.perf_counter() - started - evaluate_seconds
    return TaskOutput(
        metrics=draw_metrics(scores),
        timings={"train": train_seconds, "evaluate": evaluate_seconds},
        files={
            **draw_files(scores, draws, data),
            **(grid_files(trials) if trials else {}),
        },
        remarks=(
            *remarks,
            *data.test.remarks,
            *(grid_remarks(recipe.grid, trials) if recipe.grid is not None else ()),
        ),
        trials=trials,
    )


def _train(
    case: Case,
    backbone: Backbone,
    part: AnySplit,
    draw: int,
    *,
    group: str,
    classes: int,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> tuple[Loop, tuple[Trial, ...]]:
    """A copy of the backbone, trained on one draw, and the settings that were tried for it."""
    recipe = case.recipe
    assert isinstance(recipe, LowShotFinetuneRecipe)
    updates = max(1, len(part) // min(recipe.batch_size, len(part)))
    epochs = max(recipe.epochs, math.ceil(recipe.least_updates / updates))
    recipe = recipe.model_copy(update={"epochs": epochs})
    seed = case.seed * 1000 + draw
    workers = context.workers
    torch.manual_seed(seed)
    trials: tuple[Trial, ...] = ()
    if (grid := recipe.grid) is not None:
        attempt = partial(
            held_out_scores, backbone, part, grid, classes=classes, fabric=fabric, workers=workers,
            seed=seed, emit=emit,
        )  # fmt: skip
        recipe, trials = choose(
            recipe, grid, attempt, score="val_top1", loss="val_loss", group=group, emit=emit
        )
    fresh = replace(backbone, module=copy.deepcopy(backbone.module))
    loop = make_loop(
        fresh, part, recipe, classes=classes, fabric=fabric, workers=workers, seed=seed, emit=emit
    )
    for epoch in range(epochs):
        loop.epoch(epoch)
    return loop, trials
