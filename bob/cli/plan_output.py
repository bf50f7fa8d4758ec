"""A plan as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bob.case import Case
from bob.cost import Estimate, Total
from bob.cost.calibration import Calibration
from bob.cost.present import Presence
from bob.cost.total import cpu_line, show_hours, show_minutes, total_line
from bob.tabular import aligned

_HEADER = ("case", "task", "name", "reference", "features", "weights", "data")
_GPU_HEADER = ("GPU-hours", "GiB", "from")
_CPU_HEADER = ("CPU-min", "from")


@dataclass(frozen=True)
class Costs:
    """Estimates of every case, in one order.

    Attributes:
        gpu: Of a GPU of the table.
        gpu_total: Added up.
        cpu: Of this CPU; empty where nobody asks.
        cpu_total: Added up; none where nobody asks.
        calibration: What they rest on.
    """

    gpu: list[Estimate]
    gpu_total: Total
    cpu: list[Estimate] = field(default_factory=list)
    cpu_total: Total | None = None
    calibration: Calibration | None = None

    @property
    def tells_gpu(self) -> bool:
        """Whether GPU-hours say anything."""
        return self.cpu_total is None or show_hours(self.gpu_total.hours) != "0"


def table(scale: str, costs: Costs, there: Sequence[Presence]) -> str:
    """The plan as text: a row a case, and a line for each device."""
    columns = [
        [_HEADER, *(_about(each.case, found) for each, found in zip(costs.gpu, there, strict=True))]
    ]
    if costs.tells_gpu:
        columns.append([_GPU_HEADER, *map(_gpu_cells, costs.gpu)])
    if costs.cpu_total is not None:
        columns.append([_CPU_HEADER, *map(_cpu_cells, costs.cpu)])
    rows = [tuple(cell for part in parts for cell in part) for parts in zip(*columns, strict=True)]
    lines = aligned(rows)
    if costs.tells_gpu:
        lines.append(f"scale {scale}: {total_line(costs.gpu_total)}")
    if costs.cpu_total is not None and costs.calibration is not None:
        calibrated = costs.calibration
        text = cpu_line(costs.cpu_total, threads=calibrated.threads, date=calibrated.date)
        lines.append(f"scale {scale}: {text}")
    return "\n".join(lines)


def _about(case: Case, found: Presence) -> tuple[str, ...]:
    features = " ".join(sorted(found.features)) or "-"
    return (
        case.id, case.task, case.name, found.reference, features, found.weights, found.data,
    )  # fmt: skip


def _gpu_cells(estimated: Estimate) -> tuple[str, ...]:
    mark = "~" if estimated.rough else ""
    memory = estimated.memory_gib
    return (
        mark + show_hours(estimated.hours),
        "-" if memory is None else f"{mark}{memory:.1f}",
        estimated.basis,
    )


def _cpu_cells(estimated: Estimate) -> tuple[str, ...]:
    mark = "~" if estimated.rough else ""
    return mark + show_minutes(estimated.hours), estimated.basis


def record(scale: str, costs: Costs, there: Sequence[Presence]) -> dict[str, Any]:
    """The plan for machines."""
    on_cpu: Sequence[Estimate | None] = costs.cpu or [None] * len(costs.gpu)
    return {
        "scale": scale,
        "gpu": costs.gpu_total.device,
        "cases": [
            {
                "id": estimated.case.id,
                "task": estimated.case.task,
                "name": estimated.case.name,
                "seed": estimated.case.seed,
                "runs": estimated.runs,
                "reference": found.reference,
                "features": sorted(found.features),
                "weights": found.weights,
                "data": found.data,
                "gpu_hours": estimated.hours,
                "memory_gib": estimated.memory_gib,
                "basis": estimated.basis,
                "rough": estimated.rough,
                "cpu_minutes": _minutes(slow.hours) if slow else None,
            }
            for estimated, slow, found in zip(costs.gpu, on_cpu, there, strict=True)
        ],
        "total": asdict(costs.gpu_total),
        "cpu": _cpu_record(costs),
    }


def _cpu_record(costs: Costs) -> dict[str, Any] | None:
    whole, calibrated = costs.cpu_total, costs.calibration
    if whole is None or calibrated is None:
        return None
    return {
        **calibrated.model_dump(include={"cpu", "torch", "threads", "date"}),
        "minutes": _minutes(whole.hours),
        "low": _minutes(whole.low),
        "high": _minutes(whole.high),
        "unknown": whole.unknown,
    }


def _minutes(hours: float | None) -> float | None:
    return None if hours is None else hours * 60
