"""End-to-end fine-tuning. Source: the paper's ``train.py`` (hsouri/bob-classification).

Every weight is trained. The judged score is the last epoch's top-1 on the test split, on which no
choice is made; the paper reports the best epoch on the split it watches, recorded as ``best_top1``.
Where the recipe has a grid, its settings are tried on held-out train images first.
Where the dataset has shifted targets, the model of the last epoch is read on them too, as the
paper's fine-tuned ImageNet checkpoints are (hsouri/bob-ood-classification).
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from functools import partial

import torch
from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Trial
from bob.datasets import AnySplit, ClassificationData, ShiftData
from bob.metrics.classification import classification_metrics, outcomes
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.grid import Grid
from bob.tasks.ood import ShiftScore, score_shift, shift_files, shift_metrics
from bob.tasks.output import TaskOutput
from bob.training.classifier import Classifier
from bob.training.data import ScoringBatches, train_batches
from bob.training.epochs import train_and_score, training_metrics
from bob.training.loop import Loop
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
    data: ClassificationData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Fine-tune the backbone and score it after each epoch.

    Returns:
        ``top1``, ``top5`` and ``test_loss`` of the last epoch, ``best_top1`` and ``best_epoch``
        (counted from 1), and ``images_per_second`` of training; the tried settings of a grid. With
        shifts, what ``ood`` gives of them besides (``shifted_top1``, ``gap``, ``shift/<group>``,
        ...).

    Raises:
        TrainingDiverged: The loss is no longer finite, of a grid under every setting.
    """
    recipe = case.recipe
    assert isinstance(recipe, FinetuneRecipe)
    classes = len(data.class_names)
    start = time.perf_counter()
    trials: tuple[Trial, ...] = ()
    remarks: tuple[str, ...] = ()
    files: dict[str, bytes] = {}
    if (grid := recipe.grid) is not None:
        attempt = partial(
            held_out_scores, backbone, data.train, grid, classes=classes, fabric=fabric,
            workers=context.workers, seed=case.seed, emit=emit,
        )  # fmt: skip
        recipe, trials = choose(recipe, grid, attempt, score="val_top1", loss="val_loss", emit=emit)
        files, remarks = grid_files(trials), grid_remarks(grid, trials)
    searched = time.perf_counter() - start
    loop = make_loop(
        backbone, data.train, recipe, classes=classes, fabric=fabric, workers=context.workers,
        seed=case.seed, emit=emit,
    )  # fmt: skip
    trained = train_and_score(
        loop,
        ScoringBatches(data.test, backbone, context.workers),
        lambda logits: classification_metrics(logits, data.test.targets),
    )
    metrics = {
        **trained.metrics("top1", "top5", "test_loss", "train_loss", best="best_top1"),
        **training_metrics(loop),
        **chosen_metrics(trials),
    }
    start = time.perf_counter()
    shifts = _shifts(loop, backbone, data, trained.logits, context=context)
    evaluated = trained.evaluate_seconds + time.perf_counter() - start
    if shifts:
        metrics |= shift_metrics(shifts, metrics["top1"], len(data.test), case.dataset.baseline)
        files |= shift_files(case, shifts)
    return TaskOutput(
        metrics=metrics,
        history=trained.history,
        outcomes=outcomes(trained.logits, data.test.targets, data.class_names),
        timings={
            **({"search": searched} if trials else {}),
            "train": loop.train_seconds,
            "evaluate": evaluated,
        },
        files=files,
        remarks=(
            *data.train.remarks,
            *data.test.remarks,
            *(text for one in shifts for text in one.shift.split.remarks),
            *remarks,
        ),
        trials=trials,
    )


def _shifts(
    loop: Loop,
    backbone: Backbone,
    data: ClassificationData,
    logits: torch.Tensor,
    *,
    context: Context,
) -> list[ShiftScore]:
    """The trained model on every shifted target; nothing where the dataset has none."""
    if not isinstance(data, ShiftData):
        return []
    return [
        score_shift(
            shift,
            loop.predict(ScoringBatches(shift.split, backbone, context.workers)),
            logits,
            data.test.targets,
        )
        for shift in data.shifts
    ]


def make_loop(
    backbone: Backbone,
    split: AnySplit,
    recipe: FinetuneRecipe,
    *,
    classes: int,
    fabric: Fabric,
    workers: int,
    seed: int,
    emit: Emit,
) -> Loop:
    """The training of a backbone under a new head on a split; ``seed`` orders the batches."""
    return Loop(
        model=Classifier(backbone, classes),
        recipe=recipe,
        fabric=fabric,
        batches=train_batches(
            split, recipe, backbone, device=fabric.device, workers=workers, seed=seed
        ),
        classes=classes,
        emit=emit,
    )


def held_out_scores(
    backbone: Backbone,
    train: AnySplit,
    grid: Grid,
    recipe: FinetuneRecipe,
    *,
    classes: int,
    fabric: Fabric,
    workers: int,
    seed: int,
    emit: Emit,
) -> dict[str, float]:
    """Train a copy of the backbone on a part of a train split and score it on the rest.

    Args:
        backbone: Left as it is.
        train: What the case may learn from.
        grid: Gives the share to hold out.
        recipe: What to train under.
        classes: Number of classes.
        fabric: Device and precision.
        workers: Loader processes.
        seed: Of the order of the batches.
        emit: Receives progress.

    Returns:
        ``val_top1`` and ``val_loss`` after the last epoch, and its ``train_loss``.

    Raises:
        TrainingDiverged: The loss is no longer finite.
        BobError: No class has two images.
    """
    fit, rest = split_for_choice(train.targets, grid)
    part, choice = train.part(fit), train.part(rest)
    copied = replace(backbone, module=copy.deepcopy(backbone.module))
    loop = make_loop(
        copied, part, recipe, classes=classes, fabric=fabric, workers=workers, seed=seed, emit=emit
    )
    values: dict[str, float] = {}
    for epoch in range(recipe.epochs):
        values = loop.epoch(epoch)
    scores = classification_metrics(
        loop.predict(ScoringBatches(choice, copied, workers)), choice.targets
    )
    return {
        "val_top1": scores["top1"],
        "val_loss": scores["test_loss"],
        "train_loss": values["train_loss"],
    }
