"""Many cases together: what they share counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bob.case import Case
from bob.cost.model import ROUGH, UNCERTAINTY, Estimate, estimate
from bob.cost.speed import Speeds
from bob.errors import BobError

LITTLE = 0.1
"""GPU-hours below which a selection may as well run on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Total:
    """The cost of a selection.

    Attributes:
        device: GPU or CPU.
        hours: Of the device, shared extractions once.
        low: Lower end of the range it is meant within.
        high: Upper end.
        memory_gib: Largest peak of a case.
        unknown: Cases whose cost nothing tells.
    """

    device: str
    cases: int
    hours: float
    low: float
    high: float
    memory_gib: float
    unknown: int


def total(estimates: Sequence[Estimate], device: str, *, once: float = 0.0) -> Total:
    """Add up estimates; an extraction that several cases share counts once.

    Args:
        estimates: One a case, all of one device.
        device: Its name.
        once: Hours that the cases take together besides.
    """
    hours, low, high = once, once / UNCERTAINTY, once * UNCERTAINTY
    seen: set[str] = set()
    for estimated in estimates:
        own = estimated.own_hours or 0.0
        for shared in estimated.passes:
            own += 0.0 if shared.key in seen else shared.hours
            seen.add(shared.key)
        factor = ROUGH if estimated.rough else UNCERTAINTY
        hours, low, high = hours + own, low + own / factor, high + own * factor
    return Total(
        device=device,
        cases=len(estimates),
        hours=hours,
        low=low,
        high=high,
        memory_gib=max((each.memory_gib or 0.0 for each in estimates), default=0.0),
        unknown=sum(each.own_hours is None for each in estimates),
    )


def is_little(whole: Total) -> bool:
    """Whether a selection may as well run on the CPU, as far as its cost is known."""
    return whole.unknown < whole.cases and whole.hours < LITTLE


def show_hours(hours: float | None) -> str:
    """Hours as a table shows them."""
    if hours is None:
        return "unknown"
    if hours < 0.005:
        return "0"
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def total_line(whole: Total) -> str:
    """The last line of a plan."""
    text = (
        f"{whole.cases} cases, {show_hours(whole.hours)} GPU-hours on {whole.device} "
        f"({show_hours(whole.low)} to {show_hours(whole.high)}), up to {whole.memory_gib:.1f} GiB"
    )
    return text + _unknown(whole)


def rest_line(whole: Total, runs: int, *, on_cpu: bool = False) -> str:
    """What is left to run, in a line.

    Args:
        whole: The cost of the runs that are left.
        runs: Their number.
        on_cpu: Whether it is of this CPU rather than of a GPU.
    """
    show = show_minutes if on_cpu else show_hours
    unit = "minutes on this CPU" if on_cpu else f"GPU-hours on {whole.device}"
    return (
        f"to run: {runs} runs of {whole.cases} cases, about {show(whole.hours)} {unit} "
        f"({show(whole.low)} to {show(whole.high)}){_unknown(whole)}"
    )


def show_minutes(hours: float | None) -> str:
    """Hours as a table shows minutes."""
    if hours is None:
        return "unknown"
    minutes = hours * 60
    if minutes < 1:
        return f"{minutes:.2f}"
    return f"{minutes:.1f}" if minutes < 10 else f"{minutes:,.0f}"


def cpu_line(whole: Total, *, threads: int, date: str) -> str:
    """The last line of a plan for a CPU."""
    text = (
        f"{whole.cases} cases, {show_minutes(whole.hours)} minutes on this CPU "
        f"({show_minutes(whole.low)} to {show_minutes(whole.high)})"
    )
    many = "thread" if threads == 1 else "threads"
    return (
        f"{text}{_unknown(whole)}; estimated on {whole.device}, {threads} {many}, calibrated "
        f"{date}; --calibrate measures again"
    )


def _unknown(whole: Total) -> str:
    return f"; the cost of {whole.unknown} cases is unknown" if whole.unknown else ""


def refusal(estimates: Sequence[Estimate], gpu: str, limit: float) -> str:
    """Why a selection is not started under a limit of GPU-hours; empty when it may be."""
    whole = total(estimates, gpu)
    if whole.hours <= limit:
        return ""
    known = [each for each in estimates if each.hours is not None]
    largest = sorted(known, key=lambda each: -(each.hours or 0.0))[:3]
    names = ", ".join(
        f"{each.case.task}[{each.case.name}] {show_hours(each.hours)}" for each in largest
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
        runs: How many seeds of a case would run; of some none.
        kept: Splits of a case whose features are stored.

    Raises:
        BobError: It takes longer, or the table has no such GPU.
    """
    speeds = Speeds(gpu)
    counts = [(case, runs(case)) for case in cases]
    estimates = [
        estimate(case, speeds, runs=count, stored=kept(case)) for case, count in counts if count
    ]
    text = refusal(estimates, speeds.gpu, limit)
    if text:
        raise BobError(text, kind="cost")
