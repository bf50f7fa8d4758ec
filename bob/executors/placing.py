"""Which case a cluster runs next, and with how much of a GPU: the rules alone, without a cluster.

``python -m benchmarks.schedule`` runs the same rules on simulated clusters.
"""

from __future__ import annotations

import math

from bob.executors import Need, Submission
from bob.protocols import PROTOCOLS

MOST_LOSSES = 3
"""How often a case may lose its node, without coming further than ever, until it is given up."""
_GPU_SHARES = ((4.0, 0.25), (10.0, 0.5))
"""GiB that a case is estimated to need at most, and the share of a GPU it is given."""


def devices_of(submission: Submission) -> int:
    """On how many devices a case runs: one, where its protocol does not spread."""
    spreads = PROTOCOLS[submission.case.task].spreads
    return submission.context.devices if spreads else 1


def gpu_share(need: Need | None) -> float:
    """The share of a GPU that a case is given, by what it is estimated to need."""
    memory = need.memory_gib if need else None
    return next((share for most, share in _GPU_SHARES if memory and memory <= most), 1.0)


def order_of(submission: Submission) -> tuple[int, str, float]:
    """Longer ones first, by halves; then by backbone, whose weights and features are shared."""
    hours = submission.need.hours if submission.need else None
    size = math.floor(math.log2(hours)) if hours else 0
    return -size, submission.case.backbone.key, -(hours or 0.0)


def has_room(handed: int, shares: float, *, slots: int, gpus: float, nodes: int) -> bool:
    """Whether a cluster may be handed another case: one more for each node than can run.

    Those wait in Ray, so that a node need not wait for this process. More of them would start in
    the order they were handed out in, before any that has lost its node.

    Args:
        handed: Cases that were handed out and have not ended.
        shares: Of GPUs that they ask for, summed up.
        slots: Cases that the cluster's cores can run at once.
        gpus: Of the cluster.
        nodes: Of the cluster.
    """
    spare = max(1, nodes)
    return handed < max(1, slots) + spare and shares < gpus + spare
