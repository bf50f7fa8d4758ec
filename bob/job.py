"""One run of a case: what a runner is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from lightning_fabric import Fabric

from bob.backbones import Backbone, ReleasedClassifier
from bob.case import (
    Case,
    Content,
    Context,
    Contributions,
    DetectionOutcomes,
    Emit,
    Outcomes,
    QueryOutcomes,
    Trial,
)
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.datasets import Data
from bob.distributed.crew import Crew
from bob.distributed.group import Group
from bob.protocols import Recipe

RecipeT = TypeVar("RecipeT", bound=Recipe, covariant=True)
DataT = TypeVar("DataT", bound=Data, covariant=True)
ModelT = TypeVar("ModelT", bound=Backbone | ReleasedClassifier, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Job(Generic[RecipeT, DataT, ModelT]):
    """A case with everything that running it takes.

    A part of a job, such as one setting of a grid, is a job of its own: ``replace(job,
    recipe=...)``.

    Attributes:
        case: What is run; names the run in messages and pictures.
        recipe: Settings; the case's, or one that is tried.
        backbone: The module, in the state it is to start from.
        data: What to learn from and to be scored on.
        fabric: Device and precision.
        context: How the case is run.
        emit: Receives progress.
        seed: Of what the runner draws: the case's, or one of a part.
        checkpoint: What the case writes now and then, so that it can go on when it is stopped.
        group: The processes that train together, where the case has several devices.
        crew: Processes that extract features too, on further devices.
    """

    case: Case
    recipe: RecipeT
    backbone: ModelT
    data: DataT
    fabric: Fabric
    context: Context
    emit: Emit
    seed: int
    checkpoint: CaseCheckpoint = field(default_factory=CaseCheckpoint)
    group: Group = field(default_factory=Group)
    crew: Crew | None = None

    @property
    def device(self) -> torch.device:
        """Where the job runs."""
        return self.fabric.device

    @property
    def classes(self) -> int:
        """Number of classes, or of labels."""
        return len(self.data.class_names)

    @property
    def workers(self) -> int:
        """Loader processes."""
        return self.context.workers


@dataclass(frozen=True, kw_only=True)
class TaskOutput:
    """A runner's part of a ``Result``; see there for the attributes.

    Attributes:
        files: Artifacts by name, made or to be made; give functions for pictures and tables.
    """

    metrics: Mapping[str, float]
    history: tuple[Mapping[str, float], ...] = ()
    outcomes: Outcomes | None = None
    queries: QueryOutcomes | None = None
    contributions: Contributions | None = None
    detections: DetectionOutcomes | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, Content] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
