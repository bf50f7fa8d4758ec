"""The paper's linear probe. Source: ``linear_probe.py`` of hsouri/bob-classification, after MAE's.

LARS on a linear layer over features of freshly augmented images, 90 epochs. Here the views of an
epoch follow from the seed, so that their features are extracted once and kept like all others; and
the backbone stays in evaluation mode, where the authors' code lets batch-norm statistics move on.
The last epoch is scored; the authors report the best epoch on the split they watch, recorded as
``best_top1``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from timm.optim import Lars
from torch import nn
from torch.nn import functional

from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Progress
from bob.datasets import ClassificationData
from bob.errors import TrainingDiverged
from bob.features import FeatureSource, View
from bob.metrics.classification import classification_metrics, outcomes
from bob.protocols.linear_probe_paper import PaperProbeRecipe
from bob.tasks.from_features import features_output
from bob.tasks.output import TaskOutput
from bob.training.environment import system_metrics


def run(
    case: Case,
    backbone: Backbone,
    data: ClassificationData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Train the head epoch by epoch and score it after each.

    Returns:
        ``top1``, ``top5``, ``test_loss`` and ``train_loss`` of the last epoch, ``best_top1`` and
        ``best_epoch`` (counted from 1).

    Raises:
        TrainingDiverged: The loss is no longer finite.
    """
    recipe = case.recipe
    assert isinstance(recipe, PaperProbeRecipe)
    started = time.perf_counter()
    source = FeatureSource(case, backbone, fabric, context, emit)
    device = fabric.device
    test = source.features(data.test, "test").tensor().to(device)
    targets = data.train.targets.to(device)
    trainer = Trainer.start(recipe, backbone.num_features, len(data.class_names), device)
    order = torch.Generator().manual_seed(case.seed)
    history: list[dict[str, float]] = []
    logits = torch.empty(0)
    for epoch in range(recipe.epochs):
        view = View(case.seed, epoch, recipe.crop_scale, recipe.hflip)
        features = source.features(data.train, "train", view=view).tensor().to(device)
        loss = trainer.epoch(features, targets, epoch, order)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The training loss became {loss} in epoch {epoch + 1} of {recipe.epochs} (LARS, "
                f"base_lr {recipe.base_lr:g}). Check the scale of the backbone's features, or "
                "lower base_lr."
            )
        logits = trainer.logits(test).cpu()
        values = {"train_loss": loss, **classification_metrics(logits, data.test.targets)}
        history.append(values)
        emit(
            Progress(
                phase="epoch",
                epoch=epoch,
                epochs=recipe.epochs,
                metrics={**values, **system_metrics(device)},
            )
        )
    scores = [values["top1"] for values in history]
    best = max(range(len(scores)), key=scores.__getitem__)
    return features_output(
        source,
        started,
        metrics={**history[-1], "best_top1": scores[best], "best_epoch": float(best + 1)},
        history=tuple(history),
        outcomes=outcomes(logits, data.test.targets, data.class_names),
    )


@dataclass
class Trainer:
    """A linear layer, behind a batch norm where the recipe says so, under LARS."""

    recipe: PaperProbeRecipe
    norm: nn.Module
    linear: nn.Linear
    optimiser: torch.optim.Optimizer

    @classmethod
    def start(
        cls, recipe: PaperProbeRecipe, width: int, classes: int, device: torch.device
    ) -> Trainer:
        """Initialise as the paper does: weights from a truncated normal of 0.01, zero bias."""
        norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if recipe.batch_norm else nn.Identity()
        linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        norm.to(device)
        linear.to(device)
        # The trust ratio adapts the weights; a bias takes the plain rate and no decay.
        groups = [
            {"params": [linear.weight], "always_adapt": True},
            {"params": [linear.bias], "weight_decay": 0.0},
        ]
        optimiser = Lars(
            groups,
            lr=0.0,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            trust_coeff=recipe.trust_coefficient,
        )
        return cls(recipe, norm, linear, optimiser)

    def epoch(
        self, features: torch.Tensor, targets: torch.Tensor, epoch: int, order: torch.Generator
    ) -> float:
        """One pass over ``(n, width)`` in random order; returns the mean loss.

        The last incomplete batch is left out.
        """
        self.norm.train()
        batch = min(self.recipe.batch_size, len(targets))
        steps = len(targets) // batch
        picks = torch.randperm(len(targets), generator=order).to(features.device)
        total = torch.zeros((), device=features.device)
        for step, rows in enumerate(picks.split(batch)[:steps]):
            rate = self.rate(epoch + step / steps, batch)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss = functional.cross_entropy(self.linear(self.norm(features[rows])), targets[rows])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total += loss.detach()
        return float(total) / steps

    def rate(self, epoch: float, batch: int) -> float:
        """Learning rate at a fractional epoch: linear warm-up, then half a cosine to 0."""
        peak = self.recipe.base_lr * batch / 256
        warm, epochs = self.recipe.warmup_epochs, self.recipe.epochs
        if epoch < warm:
            return peak * epoch / warm
        return peak * 0.5 * (1 + math.cos(math.pi * (epoch - warm) / max(epochs - warm, 1e-9)))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, classes)`` of the layer as it stands."""
        self.norm.eval()
        with torch.no_grad():
            logits: torch.Tensor = self.linear(self.norm(features))
        return logits
