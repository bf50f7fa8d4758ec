"""``bob plan``: the cases of a selection, what is there for them and what they will cost."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bob.case import Case
from bob.cli.plan_output import Costs, record, table
from bob.cli.selecting import add_selection, selected_cases
from bob.cost import Speeds, estimate, total
from bob.cost.calibration import Calibration, calibrate, kept_calibration
from bob.cost.cpu import estimate_on_cpu, total_on_cpu
from bob.cost.present import Presence, Shelf
from bob.cost.total import LITTLE, is_little, refusal
from bob.errors import BobError
from bob.fingerprint import cpu_model
from bob.options.arguments import add_arguments, read_arguments
from bob.places import features_root


def add_command(commands: Any) -> None:
    """Add ``plan`` to an argument parser."""
    plan = commands.add_parser(
        "plan", help="the cases a selection makes, and what they cost",
        description="Lists the cases of a selection with what is there already and an estimate of "
        "GPU-hours and peak memory, and for little work of minutes on this CPU; docs/plan.md says "
        "how it is made and how far it holds.",
    )  # fmt: skip
    add_arguments(plan, "plan")
    add_selection(plan)
    plan.add_argument(
        "--cpu", action=argparse.BooleanOptionalAction, default=None,
        help=f"minutes on this CPU, measured at first use; unless told otherwise for selections "
        f"of less than {LITTLE:g} GPU-hours",
    )  # fmt: skip
    plan.add_argument(
        "--calibrate", action="store_true", help="measure this CPU again; implies --cpu"
    )
    plan.add_argument("--json", action="store_true", help="for machines")
    plan.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    options = read_arguments(args)
    if args.calibrate and args.cpu is False:
        raise BobError("--calibrate measures what --no-cpu leaves out; give one of them.")
    speeds = Speeds(options.reference_gpu)
    cases = selected_cases(args, options)
    shelf = Shelf(options.references, options.features or features_root())
    there = [shelf.look(case) for case in cases]
    costs = _costs(args, cases, there, speeds, seeds=options.seeds or 1)
    if args.json:
        print(json.dumps(record(options.scale, costs, there), indent=1))
    else:
        print(table(options.scale, costs, there))
    if options.max_gpu_hours is not None:
        text = refusal(costs.gpu, speeds.gpu, options.max_gpu_hours)
        if text:
            _say(text)
            return 1
    return 0


def _costs(
    args: argparse.Namespace,
    cases: list[Case],
    there: list[Presence],
    speeds: Speeds,
    *,
    seeds: int,
) -> Costs:
    runs = [seeds if case.seeded else 1 for case in cases]
    facts = list(zip(cases, runs, (found.features for found in there), strict=True))
    gpu = [estimate(case, speeds, runs=count, stored=kept) for case, count, kept in facts]
    gpu_total = total(gpu, speeds.gpu)
    wanted = args.calibrate or args.cpu
    if wanted is None:
        wanted = is_little(gpu_total)
    calibration = _calibration(again=args.calibrate) if wanted else None
    if calibration is None:
        return Costs(gpu, gpu_total)
    cpu = [
        estimate_on_cpu(case, calibration, runs=count, stored=kept) for case, count, kept in facts
    ]
    return Costs(gpu, gpu_total, cpu, total_on_cpu(cpu, calibration), calibration)


def _calibration(*, again: bool) -> Calibration | None:
    """How fast this CPU is; none, and a line that says why, where it cannot be measured."""
    found = None if again else kept_calibration(_say)
    if found is not None:
        return found
    _say(f"measuring this CPU ({cpu_model()}); 10 to 20 seconds, kept for next time")
    try:
        return calibrate()
    except BobError as error:
        _say(f"{error} Minutes are left out.")
        return None


def _say(text: str) -> None:
    print(f"bob: {text}", file=sys.stderr)
