"""Which cases are cheap: an order for those who wait for the first verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from bob.case import Case
from bob.cost.work import work_of
from bob.errors import BobError

_UPDATE = 4.0
"""A training step by a forward pass; see ``bob.cost.model.TRAIN``."""
_MACS_PER_PIXEL = 1000.0
"""Multiply-adds of a small backbone on a pixel: what a detector's heads are weighed by."""


def relative_cost(case: Case) -> float:
    """What a run costs next to others of the same backbone, in pixels through the backbone.

    Returns:
        Infinity where nothing tells.
    """
    try:
        work = work_of(case)
    except BobError:
        work = None
    if work is None:
        return math.inf
    update = 1.0 if work.frozen else _UPDATE
    area, test_area = work.side**2, (work.test_side or work.side) ** 2
    pixels = area * (update * work.train + work.views + sum(work.passes.values()))
    pixels += test_area * work.forward
    macs = 3 * work.train * work.heads_macs + work.forward * work.test_heads_macs
    return pixels + macs / _MACS_PER_PIXEL


def cheapest_first(groups: Mapping[str, Sequence[Case]]) -> list[str]:
    """Names of groups of cases by the mean cost of a case; equal ones keep their order."""
    costs = {name: fmean(map(relative_cost, cases)) for name, cases in groups.items()}
    return sorted(groups, key=costs.__getitem__)
