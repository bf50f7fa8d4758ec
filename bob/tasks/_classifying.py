"""Training a classifier end to end, as ``finetune`` and ``low_shot_finetune`` do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bob.backbones import Backbone
from bob.case import Trial
from bob.datasets import ClassificationData
from bob.job import Job
from bob.metrics.calibration import fit_temperature
from bob.metrics.classification import classification_metrics
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.grid import Grid
from bob.training.classifier import Classifier
from bob.training.data import ScoringBatches, train_batches
from bob.training.loop import Loop
from bob.training.remembered import remembered
from bob.training.search import choose, split_for_choice

FinetuneJob = Job[FinetuneRecipe, ClassificationData, Backbone]


def make_loop(job: FinetuneJob) -> Loop:
    """The training of the job's backbone under a new head on its train split."""
    return Loop(
        model=Classifier(job.backbone, job.classes),
        recipe=job.recipe,
        fabric=job.fabric,
        batches=train_batches(
            job.data.train,
            job.recipe,
            job.backbone,
            device=job.device,
            workers=job.workers,
            seed=job.seed,
            group=job.group,
        ),
        classes=job.classes,
        emit=job.emit,
        checkpoint=job.checkpoint,
        counts=partial(remembered, job),
        group=job.group,
    )


def search(job: FinetuneJob, *, group: str = "") -> tuple[FinetuneJob, tuple[Trial, ...]]:
    """The job under the best setting of its grid, and what was tried; as it is without a grid.

    Args:
        job: Its backbone is left as it is.
        group: What the choice is for, where a case makes several.

    Raises:
        GridDiverged: No setting gave finite metrics.
        BobError: No class has two images.
    """
    grid = job.recipe.grid
    if grid is None:
        return job, ()
    recipe, trials = choose(
        job.recipe,
        grid,
        lambda tried, checkpoint: held_out_scores(
            replace(job, recipe=tried, checkpoint=checkpoint), grid
        ),
        score="val_top1",
        loss="val_loss",
        group=group,
        emit=job.emit,
        checkpoint=job.checkpoint,
    )
    return replace(job, recipe=recipe), trials


def held_out_scores(job: FinetuneJob, grid: Grid) -> dict[str, float]:
    """Train a copy of the backbone on a part of the train split and score it on the rest.

    Args:
        job: What to train, and under which recipe; its backbone is left as it is.
        grid: Gives the share to hold out.

    Returns:
        ``val_top1``, ``val_loss`` and ``val_temperature`` after the last epoch, and its
        ``train_loss``.

    Raises:
        TrainingDiverged: The loss is no longer finite.
        BobError: No class has two images.
    """
    train = job.data.train
    fit, rest = split_for_choice(train.targets, grid)
    choice = train.part(rest)
    part = replace(
        job, data=replace(job.data, train=train.part(fit)), backbone=job.backbone.copied()
    )
    loop = make_loop(part)
    values = loop.train()
    logits = loop.predict(ScoringBatches(choice, part.backbone, job.workers, job.group))
    scores = classification_metrics(logits, choice.targets)
    temperature = fit_temperature(logits, choice.targets)
    return {
        **({"val_temperature": temperature} if temperature is not None else {}),
        "val_top1": scores["top1"],
        "val_loss": scores["test_loss"],
        "train_loss": values["train_loss"],
    }
