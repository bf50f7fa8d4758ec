"""What the frozen-feature protocols share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bob.features import FeatureSource
from bob.tasks.output import TaskOutput


def features_output(
    source: FeatureSource, started: float, *, metrics: Mapping[str, float], **parts: Any
) -> TaskOutput:
    """A task's output with what its features cost; keeps the store within its limit.

    Args:
        source: Where the features came from.
        started: ``time.perf_counter()`` when the task began.
        metrics: The task's own metrics.
        parts: Further parts of the output; ``remarks`` are joined with the store's.
    """
    source.close()
    remarks = (*source.remarks, *parts.pop("remarks", ()))
    timings = {
        "features": source.seconds,
        "heads": time.perf_counter() - started - source.seconds,
    }
    return TaskOutput(
        metrics={**metrics, **source.counts}, timings=timings, remarks=remarks, **parts
    )
