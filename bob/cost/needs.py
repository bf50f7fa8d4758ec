"""What an executor may ask of a case before it runs: its needs, and when it passes for hung."""

from __future__ import annotations

from bob.case import Case
from bob.cost.model import estimate
from bob.cost.speed import Speeds, is_told
from bob.errors import BobError
from bob.executors import Need

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
    return max(SHORTEST_SECONDS, 3600 * (needed(case, gpu).hours or 0.0))


def needed(case: Case, gpu: str) -> Need:
    """What a case is estimated to need; nothing where nothing tells.

    Nothing is built for it: a factory that crashes is to end its case, not this process.

    Args:
        case: What runs.
        gpu: GPU of the estimate.
    """
    if not is_told(case.backbone):
        return Need()
    try:
        found = estimate(case, Speeds(gpu))
    except BobError:
        return Need()
    return Need(found.hours, found.memory_gib)
