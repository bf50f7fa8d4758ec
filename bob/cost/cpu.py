"""What a case takes on the CPU at hand; ``docs/plan.md`` states the model and how far it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bob.case import Case
from bob.cost.calibration import Calibration, Network
from bob.cost.model import Estimate, passes_of, unknown_cost
from bob.cost.speed import ArchitectureFacts, describe
from bob.cost.total import Total, total
from bob.cost.work import work_of
from bob.protocols import Work

_FAR = 8.0
"""Ratio of sizes beyond which an estimate is marked; a network of another family is taken to be so
much further."""
_TOKEN = 16


@dataclass(frozen=True)
class _Speed:
    """Seconds of one backbone on images of one side."""

    forward: float
    update: float
    trained: float
    basis: str
    rough: bool


def estimate_on_cpu(
    case: Case,
    calibration: Calibration,
    *,
    runs: int = 1,
    stored: frozenset[str] = frozenset(),
) -> Estimate:
    """What a case takes on the CPU that was calibrated, on a machine left alone.

    Args:
        case: What would run.
        calibration: The CPU.
        runs: Seeds.
        stored: Splits whose features are kept already.

    Returns:
        Hours of the CPU's threads together; no memory.

    Raises:
        BobError: The recipe is not of the protocol's model.
    """
    work = work_of(case)
    if work is None:
        return unknown_cost(case, "the dataset's sizes are not known")
    facts = describe(case.backbone)
    if facts is None:
        return unknown_cost(case, "parameters are not known")
    speed = _speed(calibration.networks, facts, work.side)
    seconds = calibration.case + _own_seconds(work, facts, speed, calibration)
    return Estimate(
        case=case,
        own_hours=runs * seconds / 3600,
        passes=passes_of(case, work, speed.forward, runs, stored),
        basis=speed.basis,
        rough=speed.rough,
        runs=runs,
    )


def total_on_cpu(estimates: Sequence[Estimate], calibration: Calibration) -> Total:
    """Add up estimates; what the first case loads and shared extractions count once."""
    return total(estimates, calibration.cpu, once=calibration.start / 3600 if estimates else 0.0)


def _own_seconds(
    work: Work, facts: ArchitectureFacts, speed: _Speed, calibration: Calibration
) -> float:
    tested = _speed(calibration.networks, facts, work.test_side or work.side).forward
    updates = work.train / work.batch if work.batch else 0.0
    trained = speed.forward if work.frozen else speed.trained
    view = calibration.view * max(1.0, (work.side / calibration.view_side) ** 2)
    seconds = updates * speed.update + work.train * trained + work.views * view
    seconds += work.fits * calibration.fit
    if work.heads_macs:
        heads = calibration.trained_heads
        seconds += work.train * (heads.image + heads.mac * work.heads_macs)
        heads = calibration.tested_heads
        tested += heads.image + heads.mac * work.test_heads_macs
    return seconds + work.forward * tested


def _speed(networks: Sequence[Network], facts: ArchitectureFacts, side: float) -> _Speed:
    """From the nearest network by parameters times tokens, one of the family before others."""
    size = facts.parameters_m * (side / _TOKEN) ** 2

    def apart(network: Network) -> float:
        away = abs(math.log(size / _size(network)))
        return away + (0.0 if network.family == facts.family else math.log(_FAR))

    nearest = min(networks, key=apart)
    scale = size / _size(nearest)
    return _Speed(
        forward=nearest.forward * scale,
        update=nearest.update,
        trained=nearest.trained * scale,
        basis=nearest.name,
        rough=nearest.family != facts.family or max(scale, 1 / scale) > _FAR,
    )


def _size(network: Network) -> float:
    return network.parameters_m * (network.side / _TOKEN) ** 2
