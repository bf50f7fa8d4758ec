"""The probe that ``linear_probe`` and ``ood`` learn."""

from __future__ import annotations

from bob.backbones import Backbone
from bob.case import Progress
from bob.datasets import ClassificationData
from bob.features import FeatureSource
from bob.heads.probe import Probe, fit_probe
from bob.job import Job
from bob.protocols.linear_probe import ProbeRecipe


def train_probe(
    job: Job[ProbeRecipe, ClassificationData, Backbone], source: FeatureSource
) -> Probe:
    """The probe of the job's recipe on its train split."""
    recipe = job.recipe
    total = len(recipe.c)
    return fit_probe(
        source.on_device(job.data.train, "train"),
        job.data.train.targets,
        classes=job.classes,
        values=recipe.c,
        holdout=recipe.holdout,
        advance=lambda done: job.emit(Progress(phase="fit", step=done, steps=total)),
        checkpoint=job.checkpoint,
    )
