"""Out-of-distribution classification with frozen features.

A probe is learnt on the source's train split and the same classifier is read on the source's test
split and on every shifted target. Where a target holds some of the classes only, the logits of the
others are masked, as the authors do for ImageNet-A and -R, and its gap is taken from the source's
test images of the same classes under the same mask. Nothing depends on the seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from lightning_fabric import Fabric
from torch.nn import functional

from bob.backbones import Backbone
from bob.case import Case, Context, Emit
from bob.catalog.schema import RobustnessBaseline
from bob.datasets import Shift, ShiftData
from bob.features import FeatureSource
from bob.metrics.classification import classification_metrics, outcomes, top_k
from bob.tabular import csv_bytes
from bob.tasks.from_features import features_output
from bob.tasks.linear_probe import path_files, probe_metrics, probe_remarks, train_probe
from bob.tasks.output import TaskOutput


@dataclass(frozen=True)
class ShiftScore:
    """How the classifier did on one target.

    Attributes:
        top1: Accuracy on the target.
        top5: Share of the target's images whose class is among the five likeliest.
        loss: Cross-entropy on the target.
        source_top1: Accuracy on the source's test images of the target's classes.
        source_top5: The same among the five likeliest.
    """

    shift: Shift
    top1: float
    top5: float
    loss: float
    source_top1: float
    source_top5: float


def run(
    case: Case,
    backbone: Backbone,
    data: ShiftData,
    *,
    fabric: Fabric,
    context: Context,
    emit: Emit,
) -> TaskOutput:
    """Learn on the source, read on every target.

    Returns:
        ``shifted_top1``, the mean over groups of shifts (such as corruptions) of the mean within
        the group, and ``shifted_loss`` likewise; ``top1`` on the source; ``gap``, how much is lost;
        ``effective_robustness`` where the dataset has a baseline; ``shift/<group>`` for every
        group; and each target as a table and a picture.
    """
    started = time.perf_counter()
    source = FeatureSource(case, backbone, fabric, context, emit)
    test = source.features(data.test, "test").tensor().to(fabric.device)
    probe = train_probe(source, data)
    logits = probe.head.logits(test).float().cpu()
    scores = []
    for shift in data.shifts:
        features = source.features(shift.split, shift.name).tensor().to(fabric.device)
        shifted = probe.head.logits(features).float().cpu()
        scores.append(score_shift(shift, shifted, logits, data.test.targets))
    own = classification_metrics(logits, data.test.targets)
    return features_output(
        source,
        started,
        metrics={
            **own,
            **probe_metrics(probe),
            **shift_metrics(scores, own["top1"], len(data.test), case.dataset.baseline),
        },
        outcomes=outcomes(logits, data.test.targets, data.class_names),
        files={**path_files(case, probe), **shift_files(case, scores)},
        remarks=probe_remarks(probe),
    )


def masked(logits: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Logits ``(n, all classes)`` with those of other classes at minus infinity."""
    if not classes:
        return logits
    kept = torch.full_like(logits, -math.inf)
    picks = list(classes)
    kept[:, picks] = logits[:, picks]
    return kept


def score_shift(
    shift: Shift, shifted: torch.Tensor, source: torch.Tensor, targets: torch.Tensor
) -> ShiftScore:
    """Accuracy on a target and on the matching part of the source.

    Args:
        shift: The target.
        shifted: Logits on the target, ``(n, classes)``.
        source: Logits on the source's test split, ``(m, classes)``.
        targets: Classes of the source's test split, ``(m,)``.
    """
    if shift.classes:
        rows = torch.isin(targets, torch.tensor(shift.classes))
        source, targets = masked(source[rows], shift.classes), targets[rows]
    first, fifth = (top_k(source, targets, k) if len(targets) else math.nan for k in (1, 5))
    shifted = masked(shifted, shift.classes)
    return ShiftScore(
        shift=shift,
        top1=top_k(shifted, shift.split.targets),
        top5=top_k(shifted, shift.split.targets, 5),
        loss=float(functional.cross_entropy(shifted, shift.split.targets)),
        source_top1=first,
        source_top5=fifth,
    )


def shift_metrics(
    scores: Sequence[ShiftScore],
    top1: float,
    test_size: int,
    baseline: RobustnessBaseline | None,
) -> dict[str, float]:
    """Means over groups; see ``run``.

    Args:
        scores: One entry per target.
        top1: Accuracy on the source's test split.
        test_size: Images in that split.
        baseline: Where effective robustness is measured from.
    """
    groups: dict[str, list[ShiftScore]] = {}
    for score in scores:
        groups.setdefault(score.shift.group, []).append(score)
    means = {name: fmean(one.top1 for one in many) for name, many in groups.items()}
    reached = fmean(fmean(one.source_top1 for one in many) for many in groups.values())
    shifted = fmean(means.values())
    loss = fmean(fmean(one.loss for one in many) for many in groups.values())
    values = {"shifted_top1": shifted, "shifted_loss": loss, "gap": reached - shifted}
    if baseline is not None:
        usual = expected_shifted(top1, test_size, baseline)
        values["effective_robustness"] = shifted - usual
    return values | {f"shift/{name}": value for name, value in means.items()}


def expected_shifted(top1: float, test_size: int, baseline: RobustnessBaseline) -> float:
    """Accuracy under shift that is usual at an accuracy on the source.

    Args:
        top1: Accuracy on the source.
        test_size: Images behind it; keeps 0 and 1 off the ends of the logit scale.
        baseline: The line.
    """
    return 1 / (1 + math.exp(-(baseline.slope * logit(top1, test_size) + baseline.intercept)))


def logit(share: float, count: int) -> float:
    """Log odds of a share of ``count`` samples, half a sample away from 0 and 1 at least."""
    least = 0.5 / count
    share = min(1 - least, max(least, share))
    return math.log(share / (1 - share))


def shift_files(case: Case, scores: Sequence[ShiftScore]) -> dict[str, bytes]:
    """Every target as a table and a picture."""
    from bob.artifacts.plots import shift_picture

    rows = [
        (
            one.shift.name,
            one.shift.group,
            one.shift.severity,
            len(one.shift.split),
            one.top1,
            one.loss,
            one.source_top1,
            one.source_top1 - one.top1,
        )
        for one in scores
    ]
    header = ("shift", "group", "severity", "images", "top1", "loss", "source_top1", "gap")
    cells = [(one.shift.group, one.shift.severity, one.top1) for one in scores]
    return {
        "shifts.csv": csv_bytes(header, rows),
        "shifts.png": shift_picture(case, cells, fmean(one.source_top1 for one in scores)),
    }
