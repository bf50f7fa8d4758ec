"""GPU-hours and peak memory of a case; ``docs/plan.md`` states the model and how far it holds."""

from __future__ import annotations

from dataclasses import dataclass

from bob.case import Case
from bob.cost.speed import (
    BYTES_PER_PARAMETER,
    ArchitectureFacts,
    Speed,
    Speeds,
    activation_bytes,
    describe,
)
from bob.cost.work import work_of
from bob.hashing import digest_of
from bob.protocols import Work

TRAIN = 4.0
"""An update by a forward pass.

Arithmetic alone makes it 3. The median of the 40 architectures that the table has both of is 4.06
(``python -m benchmarks.cost_model``).
"""
UNCERTAINTY = 2.0
"""Factor either way that an estimate is meant within; ``ROUGH`` where it is marked."""
ROUGH = 3.0
_EXTRACTION_BATCH = 128
_INFERENCE_SHARE = 0.1
_HEADS_BYTES_PER_PIXEL = 2**30 / 1e6
_RESNET = ArchitectureFacts("resnet50", "resnet", 23.51)


@dataclass(frozen=True)
class Pass:
    """One extraction of a split's features.

    Attributes:
        key: Equal for cases that share it.
        hours: What it takes.
    """

    key: str
    hours: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a case will cost.

    Attributes:
        own_hours: Hours that no other case shares, of all runs; none where nothing tells.
        passes: Extractions that other cases may share.
        memory_gib: Peak memory of the whole effective batch. A batch that does not fit is split.
        basis: The measurement behind it, or why there is none.
        rough: Whether another architecture was measured.
        runs: Seeds that are run.
    """

    case: Case
    own_hours: float | None
    passes: tuple[Pass, ...] = ()
    memory_gib: float | None = None
    basis: str
    rough: bool = False
    runs: int = 1

    @property
    def hours(self) -> float | None:
        """Hours of the case alone."""
        if self.own_hours is None:
            return None
        return self.own_hours + sum(shared.hours for shared in self.passes)


def estimate(
    case: Case, speeds: Speeds, *, runs: int = 1, stored: frozenset[str] = frozenset()
) -> Estimate:
    """What a case costs on a GPU of the table.

    Args:
        case: What would run.
        speeds: The GPU.
        runs: Seeds.
        stored: Splits whose features are kept already.
    """
    work = work_of(case)
    if work is None:
        return unknown_cost(case, "the dataset's sizes are not known")
    facts = describe(case.backbone)
    if facts is None:
        return unknown_cost(case, "parameters are not known")
    speed = speeds.forward(facts, work.side)
    seconds = _own_seconds(work, facts, speed, speeds)
    return Estimate(
        case=case,
        own_hours=runs * seconds / 3600,
        passes=passes_of(case, work, 1 / speed.images_per_second, runs, stored),
        memory_gib=_memory(work, facts) / 2**30,
        basis=speed.basis,
        rough=speed.rough,
        runs=runs,
    )


def _own_seconds(work: Work, facts: ArchitectureFacts, speed: Speed, speeds: Speeds) -> float:
    once = 1 / speed.images_per_second
    test_side = work.test_side or work.side
    tested = 1 / speeds.forward(facts, test_side).images_per_second
    heads = tested_heads = 0.0
    if work.heads:
        heads = work.heads / speeds.forward(_RESNET, work.side).images_per_second
        tested_heads = work.heads / speeds.forward(_RESNET, test_side).images_per_second
    update = once * (1 if work.frozen else TRAIN) + heads * TRAIN
    return work.train * update + work.forward * (tested + tested_heads)


def unknown_cost(case: Case, why: str) -> Estimate:
    """The estimate of a case that nothing tells the cost of."""
    return Estimate(case=case, own_hours=None, basis=why)


def passes_of(
    case: Case, work: Work, seconds: float, runs: int, stored: frozenset[str]
) -> tuple[Pass, ...]:
    """The extractions that a case may share.

    Args:
        case: What would run.
        work: Its work.
        seconds: Of one image, forward.
        runs: Seeds.
        stored: Splits whose features are kept already.
    """
    # Weights that are known to be the same for every seed are run once.
    seeds = [0] if case.backbone.fixed else [case.seed + run for run in range(runs)]
    identity = [case.backbone.identity, case.dataset.key, work.side]
    return tuple(
        Pass(digest_of([*identity, split, seed]), images * seconds / 3600)
        for split, images in work.passes.items()
        if split not in stored
        for seed in seeds
    )


def _memory(work: Work, facts: ArchitectureFacts) -> float:
    weights = facts.parameters_m * 1e6
    held = activation_bytes(facts, work.side)
    if not work.batch:
        return weights * 4 + _EXTRACTION_BATCH * held * _INFERENCE_SHARE
    share = _INFERENCE_SHARE if work.frozen else 1.0
    heads = _HEADS_BYTES_PER_PIXEL * work.side**2 if work.heads else 0.0
    states = 4 if work.frozen else BYTES_PER_PARAMETER
    return weights * states + work.batch * (held * share + heads)
