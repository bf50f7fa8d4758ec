"""Many cases together: what they share counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bob.case import Case
from bob.cost.model import ROUGH, UNCERTAINTY, Estimate, estimate
from bob.cost.speed import Speeds
from bob.errors import BobError


@dataclass(frozen=True, kw_only=True)
class Total:
    """The cost of a selection.

    Attributes:
        hours: GPU-hours, shared extractions once.
        low: Lower end of the range it is meant within.
        high: Upper end.
        memory_gib: Largest peak of a case.
        unknown: Cases whose cost nothing tells.
    """

    gpu: str
    cases: int
    hours: float
    low: float
    high: float
    memory_gib: float
    unknown: int


def total(estimates: Sequence[Estimate], gpu: str) -> Total:
    """Add up estimates; an extraction that several cases share counts once."""
    hours, low, high = 0.0, 0.0, 0.0
    seen: set[str] = set()
    for one in estimates:
        own = one.own_hours or 0.0
        for each in one.passes:
            own += 0.0 if each.key in seen else each.hours
            seen.add(each.key)
        factor = ROUGH if one.rough else UNCERTAINTY
        hours, low, high = hours + own, low + own / factor, high + own * factor
    return Total(
        gpu=gpu,
        cases=len(estimates),
        hours=hours,
        low=low,
        high=high,
        memory_gib=max((one.memory_gib or 0.0 for one in estimates), default=0.0),
        unknown=sum(one.own_hours is None for one in estimates),
    )


def show_hours(hours: float | None) -> str:
    """Hours as a table shows them."""
    if hours is None:
        return "unknown"
    if hours < 0.005:
        return "0"
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def total_line(one: Total) -> str:
    """The last line of a plan."""
    text = (
        f"{one.cases} cases, {show_hours(one.hours)} GPU-hours on {one.gpu} "
        f"({show_hours(one.low)} to {show_hours(one.high)}), up to {one.memory_gib:.1f} GiB"
    )
    return text + (f"; the cost of {one.unknown} cases is unknown" if one.unknown else "")


def refusal(estimates: Sequence[Estimate], gpu: str, limit: float) -> str:
    """Why a selection is not started under a limit of GPU-hours; empty when it may be."""
    whole = total(estimates, gpu)
    if whole.hours <= limit:
        return ""
    known = [one for one in estimates if one.hours is not None]
    largest = sorted(known, key=lambda one: -(one.hours or 0.0))[:3]
    names = ", ".join(
        f"{one.case.task}[{one.case.name}] {show_hours(one.hours)}" for one in largest
    )
    return (
        f"The selection takes about {show_hours(whole.hours)} GPU-hours on {gpu} "
        f"({show_hours(whole.low)} to {show_hours(whole.high)}), more than --max-gpu-hours "
        f"{limit:g}. Largest: {names}. Select fewer cases, or raise the limit; `bob plan` shows "
        "every case."
    )


def check_limit(
    cases: Iterable[Case],
    *,
    limit: float,
    gpu: str,
    runs: Callable[[Case], int],
    kept: Callable[[Case], frozenset[str]],
) -> None:
    """Refuse a selection that is estimated to take longer than a limit.

    Args:
        cases: What would run.
        limit: GPU-hours.
        gpu: A GPU of the table.
        runs: Seeds of a case.
        kept: Splits of a case whose features are stored.

    Raises:
        BobError: It takes longer, or the table has no such GPU.
    """
    speeds = Speeds(gpu)
    estimates = [estimate(one, speeds, runs=runs(one), stored=kept(one)) for one in cases]
    text = refusal(estimates, speeds.gpu, limit)
    if text:
        raise BobError(text, kind="cost")
