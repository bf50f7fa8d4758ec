"""Linear probe on frozen features.

Logistic regression over DINOv2's grid of 45 regularisation strengths (M. Oquab et al., 2023), the
strength chosen on a held-out tenth of the train split, the head refitted on all of it, and the test
split read once. Nothing depends on the seed.
"""

from __future__ import annotations

from bob.artifacts.probe import path_files
from bob.backbones import Backbone
from bob.datasets import ClassificationData
from bob.features import FeatureSource
from bob.job import Job, TaskOutput
from bob.metrics.classification import classification_metrics, outcomes
from bob.protocols.linear_probe import ProbeRecipe
from bob.tasks._probing import train_probe


def run(job: Job[ProbeRecipe, ClassificationData, Backbone]) -> TaskOutput:
    """Fit and choose on train, score on test.

    Returns:
        ``top1``, ``top5`` and ``test_loss`` on the test split, ``train_loss``, the chosen ``c`` and
        its ``holdout_top1``; the path as a table and a picture.
    """
    data = job.data
    source = FeatureSource(job)
    test = source.features(data.test, "test").tensor()
    probe = train_probe(job, source)
    logits = probe.head.logits(test.to(job.device)).float().cpu()
    return source.output(
        metrics={**classification_metrics(logits, data.test.targets), **probe.metrics},
        outcomes=outcomes(
            logits, data.test.targets, data.class_names, temperature=probe.temperature
        ),
        files=path_files(job.case, probe),
        remarks=probe.remarks,
    )
