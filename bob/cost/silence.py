"""How long nothing may be heard of a running case before it passes for hung."""

from __future__ import annotations

from bob.case import Case
from bob.cost.model import estimate
from bob.cost.speed import Speeds
from bob.errors import BobError

SHORTEST_SECONDS = 3600.0
"""Hashing a large dataset on a slow disk takes as long, and tells nothing meanwhile."""


def longest_silence(case: Case, gpu: str) -> float:
    """Seconds without progress after which a case is stopped unless somebody names a time.

    An hour, or as long as the whole case is estimated to take, whichever is longer: a case that
    goes on tells every step.

    Args:
        case: What runs.
        gpu: GPU of the estimate.
    """
    try:
        hours = estimate(case, Speeds(gpu)).hours
    except BobError:
        hours = None
    return max(SHORTEST_SECONDS, 3600 * (hours or 0.0))
