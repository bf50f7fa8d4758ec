"""The protocols a backbone is put through, by name; each module is imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bob.frozen import Frozen
from bob.tasks.recipes import FinetuneRecipe


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
    """

    name: str
    scale: Literal["angular", "log", "linear"]
    higher_is_better: bool = True
    margin: float = 0.0


@dataclass(frozen=True)
class TaskSpec:
    """What the suite must know of a task without importing it.

    Attributes:
        name: Key in scales, markers and experiments.
        runner: ``package.module:function`` called as ``function(case, backbone, data, context,
            emit)`` and returning a ``TaskOutput``.
        recipe: Model of the task's recipe.
        judged: The judged metrics; the first one is the score, the others guard it.
        description: One line for `pytest --markers` and `bob list tasks`.
    """

    name: str
    runner: str
    recipe: type[Frozen]
    judged: tuple[Judged, ...]
    description: str

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.judged[0].name


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
    )
}
