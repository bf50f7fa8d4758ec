"""End-to-end fine-tuning for several labels an image: CheXpert. Source: hsouri/bob-classification.

The loss is binary cross-entropy over known labels; the judged score is the mean area under the ROC
curve of the last epoch. The paper reports the best epoch on the split it watches, recorded as
``best_auroc``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from statistics import fmean

import torch

from bob.backbones import Backbone
from bob.case import Content
from bob.datasets import MultilabelData
from bob.job import Job, TaskOutput
from bob.metrics.area import Area, area, interval
from bob.metrics.multilabel import (
    KnownLabelsLoss,
    chance_bound,
    label_aurocs,
    multilabel_metrics,
    scorable,
)
from bob.protocols.chance import CHANCE_BOUND
from bob.protocols.finetune_multilabel import MultilabelRecipe
from bob.tabular import csv_bytes
from bob.training.classifier import Classifier
from bob.training.data import ScoringBatches, train_batches
from bob.training.epochs import train_and_score, training_metrics
from bob.training.loop import Loop
from bob.training.remembered import remembered


def run(job: Job[MultilabelRecipe, MultilabelData, Backbone]) -> TaskOutput:
    """Fine-tune the backbone and score it after each epoch.

    Returns:
        ``mean_auroc`` and ``test_loss`` of the last epoch, ``train_loss``, ``best_auroc`` and
        ``best_epoch`` (counted from 1), ``auroc/<label>``; labels and samples as tables. A label
        that the test split shows on all images or none is left out of the mean, with a remark.

    Raises:
        BobError: No label can be scored on the test split.
    """
    data, labels = job.data, job.data.class_names
    truth = data.test.targets
    scored = scorable(truth, labels)
    loop = Loop(
        model=Classifier(job.backbone, job.classes),
        recipe=job.recipe,
        fabric=job.fabric,
        batches=train_batches(
            data.train,
            job.recipe,
            job.backbone,
            device=job.device,
            workers=job.workers,
            seed=job.seed,
            group=job.group,
        ),
        classes=job.classes,
        emit=job.emit,
        criterion=KnownLabelsLoss(),
        checkpoint=job.checkpoint,
        counts=partial(remembered, job),
        group=job.group,
    )
    trained = train_and_score(
        loop,
        ScoringBatches(data.test, job.backbone, job.workers, job.group),
        lambda logits: multilabel_metrics(logits, truth, scored),
    )
    aurocs = label_aurocs(trained.logits, truth, scored)
    return TaskOutput(
        metrics={
            **trained.metrics("mean_auroc", "test_loss", "train_loss", best="best_auroc"),
            **training_metrics(loop),
            CHANCE_BOUND: chance_bound(truth, scored),
            **{f"auroc/{_metric_name(labels[index])}": value for index, value in aurocs.items()},
        },
        history=trained.history,
        timings={"train": loop.train_seconds, "evaluate": trained.evaluate_seconds},
        files=_files(data, trained.logits, scored),
        remarks=(
            *data.train.remarks,
            *data.test.remarks,
            *job.backbone.training_remarks,
            *loop.remarks,
            *_left_out(labels, scored),
        ),
    )


def _left_out(labels: Sequence[str], scored: Sequence[int]) -> tuple[str, ...]:
    names = [name for index, name in enumerate(labels) if index not in scored]
    if not names:
        return ()
    return (
        f"{', '.join(names)}: the test split shows it on every image or on none, so that it is not "
        "part of mean_auroc",
    )


def _metric_name(label: str) -> str:
    return re.sub(r"(?:\W|_)+", "_", label.lower())


def _files(data: MultilabelData, logits: torch.Tensor, scored: Sequence[int]) -> dict[str, Content]:
    return {
        "labels.csv": lambda: _labels(data, logits, scored),
        "samples.csv": lambda: _samples(data, logits),
    }


def _labels(data: MultilabelData, logits: torch.Tensor, scored: Sequence[int]) -> bytes:
    """Area and 95 % interval of every label, and of their mean; a label in doubt has none."""
    truth = data.test.targets
    areas = {
        index: area(logits[:, index].double().numpy(), truth[:, index].double().numpy())
        for index in scored
        if torch.isfinite(logits[:, index]).all()
    }

    def cells(found: Sequence[Area]) -> tuple[float | str, ...]:
        return (fmean(part.value for part in found), *interval(found)) if found else ("", "", "")

    rows: list[tuple[float | str, ...]] = [
        (
            name,
            int((truth[:, index] == 1).sum()),
            int((truth[:, index] == 0).sum()),
            *cells([areas[index]] if index in areas else []),
        )
        for index, name in enumerate(data.class_names)
    ]
    whole = list(areas.values()) if len(areas) == len(scored) else []
    rows.append(("mean", "", "", *cells(whole)))
    return csv_bytes(("label", "present", "absent", "auroc", "low", "high"), rows)


def _samples(data: MultilabelData, logits: torch.Tensor) -> bytes:
    header = ["sample"]
    for name in data.class_names:
        header += [name, f"probability of {name}"]
    chances = logits.sigmoid().tolist()
    samples = [
        (row, *(cell for pair in zip(known, chance, strict=True) for cell in pair))
        for row, (known, chance) in enumerate(zip(data.test.targets.tolist(), chances, strict=True))
    ]
    return csv_bytes(header, samples)
