"""Out-of-distribution classification with frozen features.

A probe is learnt on the source's train split and the same classifier is read on the source's test
split and on every shifted target. Where a target holds some of the classes only, the logits of the
others are masked, as the authors do for ImageNet-A and -R, and its gap is taken from the source's
test images of the same classes under the same mask. Nothing depends on the seed.
"""

from __future__ import annotations

from bob.artifacts.probe import path_files
from bob.artifacts.shift import shift_files
from bob.backbones import Backbone
from bob.datasets import ShiftData
from bob.features import FeatureSource
from bob.job import Job, TaskOutput
from bob.metrics.classification import classification_metrics, outcomes
from bob.metrics.shift import (
    score_shift,
    shift_chance_bound,
    shift_contributions,
    shift_metrics,
)
from bob.protocols.chance import CHANCE_BOUND
from bob.protocols.linear_probe import ProbeRecipe
from bob.tasks._probing import train_probe


def run(job: Job[ProbeRecipe, ShiftData, Backbone]) -> TaskOutput:
    """Learn on the source, read on every target.

    Returns:
        ``shifted_top1``, the mean over groups of shifts (such as corruptions) of the mean within
        the group, and ``shifted_loss`` likewise; ``top1`` on the source; ``gap``, how much is lost;
        ``effective_robustness`` where the dataset has a baseline; ``shift/<group>`` for every
        group; ``chance_bound`` of ``shifted_top1``; and each target as a table and a picture.
    """
    case, data = job.case, job.data
    source = FeatureSource(job)
    test = source.on_device(data.test, "test")
    probe = train_probe(job, source)
    logits = probe.head.logits(test).float().cpu()
    scores = []
    for shift in data.shifts:
        features = source.on_device(shift.split, shift.name)
        shifted = probe.head.logits(features).float().cpu()
        scores.append(score_shift(shift, shifted, logits, data.test.targets))
    own = classification_metrics(logits, data.test.targets)
    return source.output(
        metrics={
            **own,
            **probe.metrics,
            **shift_metrics(scores, own["top1"], len(data.test), case.dataset.baseline),
            CHANCE_BOUND: shift_chance_bound(data.shifts, job.classes),
        },
        outcomes=outcomes(
            logits, data.test.targets, data.class_names, temperature=probe.temperature
        ),
        contributions=shift_contributions(scores, data.test.targets),
        files={**path_files(case, probe), **shift_files(case, scores)},
        remarks=probe.remarks,
    )
