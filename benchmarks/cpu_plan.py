"""How well ``bob plan`` foretells the minutes of smoke cases on this CPU.

    python -m benchmarks.cpu_plan --backbone swin_micro_glyphs [--task NAME ...] [--calibrate]

Runs the cases one after another in this process, with an empty feature store, and prints the
estimate beside what each took: the calling thread's own seconds, which other processes on the
machine do not lengthen and which the calibration is made of, and the clock's. What the first case
imports is in no row; the last line has it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace

from bob.case import Case, Context
from bob.catalog import load_catalog
from bob.cost.calibration import Calibration, calibrate, kept_calibration
from bob.cost.cpu import estimate_on_cpu
from bob.plan import Plan, Selection
from bob.tabular import aligned


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", action="append", required=True, metavar="SPEC")
    parser.add_argument("--task", action="append", default=[], metavar="NAME")
    parser.add_argument("--calibrate", action="store_true", help="measure this CPU again")
    args = parser.parse_args()
    calibration = (None if args.calibrate else kept_calibration(print)) or calibrate()
    print(
        f"{calibration.cpu}, {calibration.threads} threads, torch {calibration.torch}, calibrated "
        f"{calibration.date}"
    )
    plan = Plan(load_catalog(), Selection(backbones=tuple(args.backbone)))
    cases = [case for case in plan.all_cases() if not args.task or case.task in args.task]
    start = _import_all()
    print("\n".join(aligned(_measured(cases, calibration))))
    print(f"imports: estimated {calibration.start:.1f} s, measured {start:.1f} s")


def _import_all() -> float:
    """Seconds of what only the first case of a process imports."""
    begun = time.thread_time()
    from bob.run import run_case

    case = Plan(load_catalog(), Selection()).cases("knn")[0]
    pixels = case.backbone.model_copy(
        update={"source": "bob.backbones.micro:pooled_pixels", "weights": None}
    )
    with tempfile.TemporaryDirectory() as folder:
        run_case(replace(case, backbone=pixels), Context(accelerator="cpu", features=folder))
    return time.thread_time() - begun


def _measured(cases: list[Case], calibration: Calibration) -> list[tuple[str, ...]]:
    from bob.run import run_case

    rows: list[tuple[str, ...]] = [("case", "estimated s", "measured s", "factor", "clock s")]
    sums = [0.0, 0.0, 0.0]
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            estimate = estimate_on_cpu(case, calibration)
            assert estimate.own_hours is not None, estimate.basis
            shared = [one_pass for one_pass in estimate.passes if one_pass.key not in seen]
            seen |= {one_pass.key for one_pass in shared}
            expected = 3600 * (estimate.own_hours + sum(one_pass.hours for one_pass in shared))
            clock, own = time.perf_counter(), time.thread_time()
            result = run_case(case, Context(accelerator="cpu", features=folder))
            clock, own = time.perf_counter() - clock, time.thread_time() - own
            if result.failure is not None:
                raise SystemExit(f"{case.task}[{case.name}]: {result.failure.message}")
            rows.append(_row(f"{case.task}[{case.name}]", expected, own, clock))
            sums = [total + part for total, part in zip(sums, (expected, own, clock), strict=True)]
    rows.append(_row("all", *sums))
    return rows


def _row(name: str, expected: float, own: float, clock: float) -> tuple[str, ...]:
    return (name, f"{expected:.1f}", f"{own:.1f}", f"{expected / own:.2f}", f"{clock:.1f}")


if __name__ == "__main__":
    main()
