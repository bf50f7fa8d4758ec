"""``bob plan``: the cases of a selection, what is there for them and what they will cost."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bob.case import Case
from bob.catalog import installed_backbones, load_catalog
from bob.cost import DEFAULT_GPU, Estimate, Speeds, estimate, total
from bob.cost.present import Presence, Shelf
from bob.cost.total import refusal, show_hours, total_line
from bob.errors import BobError, unknown
from bob.places import features_root
from bob.plan import Plan, Selection
from bob.protocols.detection import ENGINES

_HEADER = (
    "case", "task", "name", "reference", "features", "weights", "data", "GPU-hours", "GiB", "from",
)  # fmt: skip


def add_command(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add ``plan`` to an argument parser."""
    plan = commands.add_parser(
        "plan", parents=[shared], help="the cases a selection makes, and what they cost",
        description="Lists the cases of a selection with what is there already and an estimate of "
        "GPU-hours and peak memory; docs/plan.md says how it is made and how far it holds.",
    )  # fmt: skip
    plan.add_argument("--scale", default="smoke")
    plan.add_argument("--backbone", action="append", default=[], metavar="SPEC")
    plan.add_argument("--base-seed", type=int, default=0)
    plan.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds a case runs")
    plan.add_argument("--dataset", action="append", default=[], metavar="SPEC")
    plan.add_argument("--task", action="append", default=[], metavar="NAME", help="repeatable")
    plan.add_argument("--engine", choices=ENGINES, default="", help="of detection tasks")
    plan.add_argument("--grid", action="store_true", help="choose from the scale's grids")
    plan.add_argument(
        "-k", dest="words", default="", metavar="TEXT", help="only cases whose task[name] has this"
    )
    plan.add_argument("--gpu", default=DEFAULT_GPU, metavar="NAME", help="GPU of the estimate")
    plan.add_argument(
        "--max-gpu-hours", type=float, metavar="X", help="exit with status 1 if it takes longer"
    )
    plan.add_argument("--references", type=Path, default=Path("references"), metavar="DIR")
    plan.add_argument("--features", type=Path, metavar="DIR", help="folder of the feature store")
    plan.add_argument("--json", action="store_true", help="for machines")
    plan.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    from bob.tabular import aligned

    if args.seeds < 1:
        raise BobError(f"--seeds {args.seeds}: expected at least 1.")
    speeds = Speeds(args.gpu)
    cases = _cases(args)
    shelf = Shelf(args.references, args.features or features_root())
    there = [shelf.look(case) for case in cases]
    estimates = [
        estimate(
            case,
            speeds,
            runs=args.seeds if case.seeded else 1,
            stored=found.features,
        )
        for case, found in zip(cases, there, strict=True)
    ]
    if args.json:
        print(json.dumps(_record(args, estimates, there, speeds), indent=1))
    else:
        rows = [_HEADER, *map(_row, estimates, there)]
        print("\n".join(aligned(rows)))
        print(f"scale {args.scale}: {total_line(total(estimates, speeds.gpu))}")
    if args.max_gpu_hours is not None:
        text = refusal(estimates, speeds.gpu, args.max_gpu_hours)
        if text:
            print(f"bob: {text}", file=sys.stderr)
            return 1
    return 0


def _cases(args: argparse.Namespace) -> list[Case]:
    selection = Selection(
        scale=args.scale,
        backbones=tuple(args.backbone),
        seed=args.base_seed,
        engine=args.engine,
        datasets=tuple(args.dataset),
        grid=args.grid,
    )
    plan = Plan(installed_backbones(load_catalog(args.catalog)), selection)
    for task in args.task:
        if task not in plan.scale.tasks:
            raise unknown(f"task of scale {plan.scale.key}", task, plan.scale.tasks)
    words = args.words.lower()
    return [
        case
        for case in plan.all_cases()
        if (not args.task or case.task in args.task)
        and words in f"{case.task}[{case.name}]".lower()
    ]


def _row(one: Estimate, found: Presence) -> tuple[str, ...]:
    mark = "~" if one.rough else ""
    return (
        one.case.id,
        one.case.task,
        one.case.name,
        found.reference,
        " ".join(sorted(found.features)) or "-",
        found.weights,
        found.data,
        mark + show_hours(one.hours),
        "-" if one.memory_gib is None else f"{mark}{one.memory_gib:.1f}",
        one.basis,
    )


def _record(
    args: argparse.Namespace, estimates: list[Estimate], there: list[Presence], speeds: Speeds
) -> dict[str, Any]:
    return {
        "scale": args.scale,
        "gpu": speeds.gpu,
        "cases": [
            {
                "id": one.case.id,
                "task": one.case.task,
                "name": one.case.name,
                "seed": one.case.seed,
                "runs": one.runs,
                "reference": found.reference,
                "features": sorted(found.features),
                "weights": found.weights,
                "data": found.data,
                "gpu_hours": one.hours,
                "memory_gib": one.memory_gib,
                "basis": one.basis,
                "rough": one.rough,
            }
            for one, found in zip(estimates, there, strict=True)
        ],
        "total": asdict(total(estimates, speeds.gpu)),
    }
