"""What a task gives back to ``run_case``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bob.case import Outcomes, QueryOutcomes, Trial


@dataclass(frozen=True, kw_only=True)
class TaskOutput:
    """A task's part of a ``Result``; see there for the attributes."""

    metrics: Mapping[str, float]
    history: tuple[Mapping[str, float], ...] = ()
    outcomes: Outcomes | None = None
    queries: QueryOutcomes | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
