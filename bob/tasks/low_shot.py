"""Low-shot linear probe on frozen features.

A few train images per class, or a small share of all, in fixed draws that everybody shares; for
each draw a logistic regression of fixed strength, because so few images leave nothing to choose on.
Nothing depends on the seed.
"""

from __future__ import annotations

import time

import torch
from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Progress
from bob.datasets import ClassificationData
from bob.datasets.subsets import low_shot_draws
from bob.features import FeatureSource
from bob.heads.logistic import fit
from bob.metrics.classification import top_k
from bob.protocols.low_shot import LowShotRecipe
from bob.tasks.draws import draw_files, draw_metrics
from bob.tasks.from_features import features_output
from bob.tasks.output import TaskOutput


def run(
    case: Case,
    backbone: Backbone,
    data: ClassificationData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Fit a probe on every draw and score it on test.

    Returns:
        ``top1``, the mean over settings and draws; for each setting ``top1_<setting>``, the mean
        over its draws, and ``spread_<setting>``, their standard deviation; the draws as files.
    """
    recipe = case.recipe
    assert isinstance(recipe, LowShotRecipe)
    started = time.perf_counter()
    source = FeatureSource(case, backbone, fabric, context, emit)
    train = source.features(data.train, "train").tensor().to(fabric.device)
    test = source.features(data.test, "test").tensor().to(fabric.device)
    draws = low_shot_draws(
        data.train.targets,
        data.class_names,
        shots=recipe.shots,
        fractions=recipe.fractions,
        draws=recipe.draws,
    )
    total = sum(map(len, draws.values()))
    scores: dict[str, list[float]] = {}
    for setting, picks in draws.items():
        scores[setting] = []
        for rows in picks:
            logits = probe_logits(
                train[rows],
                data.train.targets[rows],
                test,
                classes=len(data.class_names),
                c=recipe.c,
            )
            scores[setting].append(top_k(logits.cpu(), data.test.targets))
            emit(Progress(phase="fit", step=sum(map(len, scores.values())), steps=total))
    return features_output(
        source,
        started,
        metrics=draw_metrics(scores),
        files=draw_files(scores, draws, data),
    )


def probe_logits(
    features: torch.Tensor, targets: torch.Tensor, test: torch.Tensor, *, classes: int, c: float
) -> torch.Tensor:
    """Logits on test of a probe of strength ``c``.

    Features are centred on the draw's mean and divided by one number, their root mean square, so
    that the same strength means the same to every backbone.

    Args:
        features: The draw's, ``(n, d)``.
        targets: Its classes, ``(n,)``.
        test: ``(m, d)``.
        classes: Number of classes.
        c: Inverse regularisation strength.
    """
    mean = features.mean(dim=0)
    scale = (features - mean).square().mean().sqrt().clamp_min(1e-12)
    head = fit((features - mean) / scale, targets.to(features.device), classes=classes, c=c)
    return head.logits((test - mean) / scale)
