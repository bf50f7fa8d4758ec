"""Jobs for tests that call a runner, or a part of one, directly."""

from __future__ import annotations

from typing import Any

from lightning_fabric import Fabric

from bob.backbones import Backbone
from bob.case import Case, Context, Progress
from bob.datasets import Data
from bob.distributed.strategy import make_fabric
from bob.job import Job


def ignore(progress: Progress) -> None:
    """Progress that nobody follows."""


def make_job(
    case: Case,
    backbone: Backbone,
    data: Data,
    *,
    fabric: Fabric | None = None,
    context: Context | None = None,
) -> Job[Any, Any, Backbone]:
    """The job of a case on the CPU."""
    return Job(
        case=case,
        recipe=case.recipe,
        backbone=backbone,
        data=data,
        fabric=fabric or make_fabric("cpu", "auto"),
        context=context or Context(accelerator="cpu", workers=0),
        emit=ignore,
        seed=case.seed,
    )
