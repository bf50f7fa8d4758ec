"""The paper's linear probe. Source: ``linear_probe.py`` of hsouri/bob-classification, after MAE's.

LARS on a linear layer over features of freshly augmented images, 90 epochs. Here the views of an
epoch follow from the seed, so that their features are extracted once and kept like all others; and
the backbone stays in evaluation mode, where the authors' code lets batch-norm statistics move on.
The last epoch is scored; the authors report the best epoch on the split they watch, recorded as
``best_top1``.
"""

from __future__ import annotations

import math

import torch

from bob.backbones import Backbone
from bob.case import Progress
from bob.checkpoints.encoding import State
from bob.datasets import ClassificationData
from bob.errors import TrainingDiverged
from bob.features import FeatureSource, View
from bob.heads.paper_probe import Trainer
from bob.job import Job, TaskOutput
from bob.metrics.classification import classification_metrics, outcomes
from bob.protocols.linear_probe_paper import PaperProbeRecipe
from bob.training.environment import system_metrics

PaperProbeJob = Job[PaperProbeRecipe, ClassificationData, Backbone]


def run(job: PaperProbeJob) -> TaskOutput:
    """Train the head epoch by epoch and score it after each.

    Returns:
        ``top1``, ``top5``, ``test_loss`` and ``train_loss`` of the last epoch, ``best_top1`` and
        ``best_epoch`` (counted from 1).

    Raises:
        TrainingDiverged: The loss is no longer finite.
    """
    recipe, data, device = job.recipe, job.data, job.device
    source = FeatureSource(job)
    test = source.on_device(data.test, "test")
    targets = data.train.targets.to(device)
    trainer = Trainer.start(recipe, job.backbone.num_features, job.classes, device)
    order = torch.Generator().manual_seed(job.seed)
    history = _begin(job, trainer, order, source)

    def state() -> State:
        return {
            **trainer.state(),
            "order": order.get_state(),
            "history": history,
            "remarks": source.remarks,
        }

    with job.checkpoint.live("head", state):
        for epoch in range(len(history), recipe.epochs):
            view = View(job.seed, epoch, recipe.crop_scale, recipe.hflip)
            features = source.on_device(data.train, "train", view=view)
            loss = trainer.epoch(features, targets, epoch, order)
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"The training loss became {loss} in epoch {epoch + 1} of {recipe.epochs} "
                    f"(LARS, base_lr {recipe.base_lr:g}). Check the scale of the backbone's "
                    "features, or lower base_lr."
                )
            scored = classification_metrics(trainer.logits(test).cpu(), data.test.targets)
            history.append({"train_loss": loss, **scored})
            job.checkpoint.step()
            _tell(job, epoch, {**history[-1], **system_metrics(device)})
    logits = trainer.logits(test).cpu()
    scores = [values["top1"] for values in history]
    best = max(range(len(scores)), key=scores.__getitem__)
    return source.output(
        metrics={**history[-1], "best_top1": scores[best], "best_epoch": float(best + 1)},
        history=tuple(history),
        outcomes=outcomes(logits, data.test.targets, data.class_names),
    )


def _begin(
    job: PaperProbeJob, trainer: Trainer, order: torch.Generator, source: FeatureSource
) -> list[dict[str, float]]:
    """The values of the epochs that a checkpoint holds, whose state the head and its order take."""
    found = job.checkpoint.found("head")
    if found is None:
        return []
    trainer.take_up(found)
    order.set_state(found["order"])
    source.remarks[:] = found["remarks"]
    history: list[dict[str, float]] = found["history"]
    for epoch, values in enumerate(history):
        _tell(job, epoch, values)
    return history


def _tell(job: PaperProbeJob, epoch: int, values: dict[str, float]) -> None:
    epochs = job.recipe.epochs
    job.emit(Progress(phase="epoch", epoch=epoch, epochs=epochs, metrics=values))
