"""Low-shot linear probe on frozen features.

A few train images per class, or a small share of all, in fixed draws that everybody shares; for
each draw a logistic regression of fixed strength, because so few images leave nothing to choose on.
Nothing depends on the seed. A draw's temperature is fitted on train images that the draw did not
take; it changes no score.
"""

from __future__ import annotations

from bob.artifacts.draws import draw_files
from bob.backbones import Backbone
from bob.case import Progress
from bob.datasets import ClassificationData
from bob.datasets.subsets import low_shot_draws
from bob.features import FeatureSource
from bob.heads.few_shot import fit_few
from bob.job import Job, TaskOutput
from bob.metrics.calibration import fit_temperature
from bob.metrics.draws import DrawScore, draw_contributions, draw_metrics, score_draw
from bob.protocols.low_shot import LowShotRecipe
from bob.tasks._spare import spare_rows


def run(job: Job[LowShotRecipe, ClassificationData, Backbone]) -> TaskOutput:
    """Fit a probe on every draw and score it on test.

    Returns:
        ``top1``, the mean over settings and draws; for each setting ``top1_<setting>``, the mean
        over its draws, and ``spread_<setting>``, their standard deviation; calibration as means
        over settings and draws; the draws as files.
    """
    recipe, data = job.recipe, job.data
    source = FeatureSource(job)
    train = source.on_device(data.train, "train")
    test = source.on_device(data.test, "test")
    targets = data.train.targets
    draws = low_shot_draws(
        targets,
        data.class_names,
        shots=recipe.shots,
        fractions=recipe.fractions,
        draws=recipe.draws,
    )
    total = sum(map(len, draws.values()))
    scores: dict[str, list[DrawScore]] = {}
    for setting, picks in draws.items():
        scores[setting] = []
        for rows in picks:
            probe = fit_few(train[rows], targets[rows], classes=job.classes, c=recipe.c)
            spare = spare_rows(targets, rows)
            temperature = fit_temperature(probe.logits(train[spare]), targets[spare])
            logits = probe.logits(test).cpu()
            scores[setting].append(
                score_draw(logits, data.test.targets, data.class_names, temperature=temperature)
            )
            job.emit(Progress(phase="fit", step=sum(map(len, scores.values())), steps=total))
    return source.output(
        metrics=draw_metrics(scores),
        contributions=draw_contributions(scores, data.test.targets),
        files=draw_files(scores, draws, data),
    )
