"""Linear probe on frozen features.

Logistic regression over DINOv2's grid of 45 regularisation strengths (M. Oquab et al., 2023), the
strength chosen on a held-out tenth of the train split, the head refitted on all of it, and the test
split read once. Nothing depends on the seed.
"""

from __future__ import annotations

import time

from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Emit, Progress
from bob.datasets import ClassificationData
from bob.features import FeatureSource
from bob.heads.probe import Probe, fit_probe
from bob.metrics.classification import classification_metrics, outcomes
from bob.protocols.linear_probe import ProbeRecipe
from bob.tabular import csv_bytes
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
    """Fit and choose on train, score on test.

    Returns:
        ``top1``, ``top5`` and ``test_loss`` on the test split, ``train_loss``, the chosen ``c`` and
        its ``holdout_top1``; the path as a table and a picture.
    """
    started = time.perf_counter()
    source = FeatureSource(case, backbone, fabric, context, emit)
    test = source.features(data.test, "test").tensor()
    probe = train_probe(source, data)
    logits = probe.head.logits(test.to(fabric.device)).float().cpu()
    return features_output(
        source,
        started,
        metrics={**classification_metrics(logits, data.test.targets), **probe_metrics(probe)},
        outcomes=outcomes(logits, data.test.targets, data.class_names),
        files=path_files(case, probe),
        remarks=probe_remarks(probe),
    )


def train_probe(source: FeatureSource, data: ClassificationData) -> Probe:
    """The probe of a case's recipe on its train split."""
    recipe = source.case.recipe
    assert isinstance(recipe, ProbeRecipe)
    total = len(recipe.c)
    return fit_probe(
        source.features(data.train, "train").tensor().to(source.fabric.device),
        data.train.targets,
        classes=len(data.class_names),
        values=recipe.c,
        holdout=recipe.holdout,
        advance=lambda done: source.emit(Progress(phase="fit", step=done, steps=total)),
    )


def probe_metrics(probe: Probe) -> dict[str, float]:
    """What is recorded of the choice."""
    chosen = {"holdout_top1": probe.chosen.top1} if probe.chosen else {}
    return {"train_loss": probe.train_loss, "c": probe.c, **chosen}


def probe_remarks(probe: Probe) -> tuple[str, ...]:
    """What a reader should know of the choice."""
    if not probe.path:
        return ("no class has two train images, so nothing was held out to choose C on",)
    if probe.at_edge:
        return (f"C {probe.c:g} was chosen at the edge of the grid; widen the recipe's c",)
    return ()


def path_files(case: Case, probe: Probe) -> dict[str, bytes]:
    """The regularisation path as a table and a picture."""
    from bob.artifacts.plots import regularisation_path

    if not probe.path:
        return {}
    rows = [(f"{point.c:g}", point.top1, point.loss) for point in probe.path]
    return {
        "regularisation_path.csv": csv_bytes(("c", "holdout_top1", "holdout_loss"), rows),
        "regularisation_path.png": regularisation_path(case, probe.path, probe.c),
    }
