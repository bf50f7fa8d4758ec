"""Optimiser and learning-rate schedule, from timm's factories."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler.cosine_lr import CosineLRScheduler

from bob.protocols.finetune import FinetuneRecipe
from bob.training.classifier import Classifier

_FUSED = {"adam", "adamw", "sgd"}


def build_optimiser(model: Classifier, recipe: FinetuneRecipe) -> torch.optim.Optimizer:
    """Optimiser over layer-wise groups: the head at full rate, each layer below at a share.

    Biases, norms and what the backbone names in ``no_weight_decay()`` are not decayed.
    """
    exempt: set[str] = getattr(model.backbone, "no_weight_decay", set)()
    groups: list[dict[str, Any]] = []
    if recipe.layer_decay < 1 and any(p.requires_grad for p in model.backbone.parameters()):
        groups = param_groups_layer_decay(
            model.backbone,
            weight_decay=recipe.weight_decay,
            no_weight_decay_list=exempt,
            layer_decay=recipe.layer_decay,
        )
    else:
        groups = param_groups_weight_decay(
            model.backbone, weight_decay=recipe.weight_decay, no_weight_decay_list=exempt
        )
    groups += param_groups_weight_decay(model.head, weight_decay=recipe.weight_decay)
    fused = {"fused": True} if recipe.optimizer in _FUSED else {}
    return create_optimizer_v2(
        groups, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **fused
    )


def build_schedule(
    optimiser: torch.optim.Optimizer, recipe: FinetuneRecipe, steps_per_epoch: int
) -> CosineLRScheduler:
    """Linear warm-up, then cosine to ``min_lr``, stepped once per update."""
    total = recipe.epochs * steps_per_epoch
    return CosineLRScheduler(
        optimiser,
        t_initial=total,
        lr_min=recipe.min_lr,
        warmup_t=min(round(recipe.warmup_epochs * steps_per_epoch), total - 1),
        warmup_lr_init=recipe.warmup_lr,
        warmup_prefix=False,
        t_in_epochs=False,
    )
