"""The protocols a backbone is put through, by name; each module is imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bob.frozen import Frozen
from bob.tasks.detection_recipe import (
    DetectionRecipe,
    FrozenDetectionRecipe,
    ShiftedDetectionRecipe,
)
from bob.tasks.recipes import (
    FinetuneRecipe,
    KnnRecipe,
    LowShotFinetuneRecipe,
    LowShotRecipe,
    PaperProbeRecipe,
    ProbeRecipe,
    ReleasedRecipe,
    RetrievalRecipe,
)

DataKind = Literal[
    "classification", "shift", "multilabel", "retrieval", "detection", "detection_shift"
]


@dataclass(frozen=True)
class Judged:
    """A metric that is held against a band.

    Attributes:
        name: Key in ``Result.metrics``.
        scale: Where its spread is pooled: ``angular`` for a fraction of test samples (arcsine of
            the square root, on which sampling noise does not depend on the fraction), ``log`` for
            positive numbers whose noise is relative, ``linear`` otherwise.
        higher_is_better: Which side of the band is worse.
        margin: Smallest change for the worse that matters: a difference on ``angular`` and
            ``linear`` scales, a share on the ``log`` scale. A scale's recipe may set the first
            metric's.
        kinds: Kinds of dataset that give the metric; empty for every kind the task takes.
    """

    name: str
    scale: Literal["angular", "log", "linear"]
    higher_is_better: bool = True
    margin: float = 0.0
    kinds: tuple[DataKind, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """What the suite must know of a task without importing it.

    Attributes:
        name: Key in scales, markers and experiments.
        runner: ``package.module:function`` called as ``function(case, backbone, data, *, fabric,
            context, emit)`` and returning a ``TaskOutput``.
        recipe: Model of the task's recipe.
        judged: The judged metrics; the first one is the score, the others guard it.
        description: One line for `pytest --markers` and `bob list tasks`.
        seeded: Whether the protocol itself draws from the seed. One that does not gives the same
            score for the same weights every time, and its band is exact.
        data: Kind of dataset it runs on; a dataset with shifts also serves classification.
        released_head: Whether it reads the classifier the checkpoint was released with: the runner
            receives a ``ReleasedClassifier`` in place of a ``Backbone``.
    """

    name: str
    runner: str
    recipe: type[Frozen]
    judged: tuple[Judged, ...]
    description: str
    seeded: bool = True
    data: DataKind = "classification"
    released_head: bool = False

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.judged[0].name

    def takes(self, kind: DataKind) -> bool:
        """Whether the task runs on datasets of a kind."""
        return kind == self.data or (kind == "shift" and self.data == "classification")


_DETECTION = (
    Judged("box_ap", "angular"),
    Judged("mask_ap", "angular", margin=0.01),
    Judged("train_loss", "log", higher_is_better=False, margin=0.05),
)

TASKS = {
    task.name: task
    for task in (
        TaskSpec(
            name="finetune",
            runner="bob.tasks.finetune:run",
            recipe=FinetuneRecipe,
            judged=(
                Judged("top1", "angular"),
                Judged("test_loss", "log", higher_is_better=False, margin=0.1),
                Judged("train_loss", "log", higher_is_better=False, margin=0.05),
            ),
            description="end-to-end fine-tuning for image classification",
        ),
        TaskSpec(
            name="linear_probe",
            runner="bob.tasks.linear_probe:run",
            recipe=ProbeRecipe,
            judged=(
                Judged("top1", "angular"),
                Judged("test_loss", "log", higher_is_better=False, margin=0.1),
            ),
            description="logistic regression on frozen features, regularisation chosen on train",
            seeded=False,
        ),
        TaskSpec(
            name="linear_probe_paper",
            runner="bob.tasks.linear_probe_paper:run",
            recipe=PaperProbeRecipe,
            judged=(
                Judged("top1", "angular"),
                Judged("test_loss", "log", higher_is_better=False, margin=0.1),
                Judged("train_loss", "log", higher_is_better=False, margin=0.05),
            ),
            description="the paper's linear probe: LARS on augmented views of frozen features",
        ),
        TaskSpec(
            name="knn",
            runner="bob.tasks.knn:run",
            recipe=KnnRecipe,
            judged=(Judged("top1", "angular"), Judged("vote_share", "angular", margin=0.01)),
            description="weighted vote of the nearest train images in frozen features",
            seeded=False,
        ),
        TaskSpec(
            name="low_shot",
            runner="bob.tasks.low_shot:run",
            recipe=LowShotRecipe,
            judged=(Judged("top1", "angular"),),
            description="logistic regression on frozen features of a few train images",
            seeded=False,
        ),
        TaskSpec(
            name="low_shot_finetune",
            runner="bob.tasks.low_shot_finetune:run",
            recipe=LowShotFinetuneRecipe,
            judged=(Judged("top1", "angular"),),
            description="end-to-end fine-tuning on 1 % and 10 % of the train images",
        ),
        TaskSpec(
            name="retrieval",
            runner="bob.tasks.retrieval:run",
            recipe=RetrievalRecipe,
            judged=(Judged("map", "angular"), Judged("mrr", "angular", margin=0.01)),
            description="image retrieval by cosine similarity of frozen features",
            seeded=False,
            data="retrieval",
        ),
        TaskSpec(
            name="ood",
            runner="bob.tasks.ood:run",
            recipe=ProbeRecipe,
            judged=(
                Judged("shifted_top1", "angular"),
                Judged("top1", "angular", margin=0.005),
                Judged("shifted_loss", "log", higher_is_better=False, margin=0.15),
            ),
            description="a probe learnt on the source, read on shifted targets",
            seeded=False,
            data="shift",
        ),
        TaskSpec(
            name="eval_released",
            runner="bob.tasks.eval_released:run",
            recipe=ReleasedRecipe,
            judged=(
                Judged("top1", "angular"),
                Judged("test_loss", "log", higher_is_better=False, margin=0.01),
                Judged("shifted_top1", "angular", margin=0.001, kinds=("shift",)),
            ),
            description="the released checkpoint's own classifier, nothing learnt",
            seeded=False,
            released_head=True,
        ),
        TaskSpec(
            name="detection",
            runner="bob.tasks.detection:run",
            recipe=DetectionRecipe,
            judged=_DETECTION,
            description="object detection and instance segmentation, everything fine-tuned",
            data="detection",
        ),
        TaskSpec(
            name="detection_frozen",
            runner="bob.tasks.detection:run",
            recipe=FrozenDetectionRecipe,
            judged=_DETECTION,
            description="object detection and instance segmentation on a frozen backbone",
            data="detection",
        ),
        TaskSpec(
            name="ood_detection",
            runner="bob.tasks.ood_detection:run",
            recipe=ShiftedDetectionRecipe,
            judged=(
                Judged("shifted_box_ap", "angular"),
                Judged("train_loss", "log", higher_is_better=False, margin=0.05),
            ),
            description="object detection learnt on a source, read on shifted targets",
            data="detection_shift",
        ),
    )
}
