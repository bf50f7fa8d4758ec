"""Nearest class mean on frozen features: how it is run."""

from __future__ import annotations

import torch

from acme_bob.nearest_mean import NearestMeanRecipe
from bob.backbones import Backbone
from bob.datasets import ClassificationData
from bob.features import FeatureSource
from bob.job import Job, TaskOutput
from bob.metrics.classification import classification_metrics, outcomes


def run(job: Job[NearestMeanRecipe, ClassificationData, Backbone]) -> TaskOutput:
    """Classify each test image by the nearest mean of train features."""
    data = job.data
    source = FeatureSource(job)
    train = source.on_device(data.train, "train")
    test = source.on_device(data.test, "test")
    targets = data.train.targets.to(train.device)
    means = torch.stack([train[targets == label].mean(dim=0) for label in range(job.classes)])
    logits = -torch.cdist(test, means).cpu()
    return source.output(
        metrics=classification_metrics(logits, data.test.targets),
        outcomes=outcomes(logits, data.test.targets, data.class_names),
    )
