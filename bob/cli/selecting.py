"""Which cases a command is about, chosen as pytest's ``-k`` and ``-m`` choose them."""

from __future__ import annotations

import argparse

from bob.case import Case
from bob.catalog import installed_backbones, load_catalog
from bob.errors import unknown
from bob.options import Options
from bob.plan import Plan


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add ``--task`` and ``-k`` to a command that takes the options of a plan."""
    parser.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="only this task; repeatable"
    )
    parser.add_argument(
        "-k", dest="words", default="", metavar="TEXT", help="only cases whose task[name] has this"
    )


def selected_cases(args: argparse.Namespace, options: Options) -> list[Case]:
    """The cases of a selection.

    Raises:
        BobError: A backbone, dataset, scale or task is unknown.
    """
    plan = Plan(installed_backbones(load_catalog(options.catalogs)), options.selection)
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
