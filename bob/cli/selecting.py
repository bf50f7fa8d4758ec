"""Which cases a command is about, chosen as pytest's ``-k`` and ``-m`` choose them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from bob.case import Case
from bob.catalog import installed_backbones, load_catalog
from bob.errors import BobError, unknown
from bob.options import Options
from bob.plan import Plan


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add ``--task`` and ``-k`` to a command that takes the options of a plan."""
    parser.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="only this task; repeatable"
    )
    parser.add_argument(
        "-k",
        dest="words",
        default="",
        metavar="WORDS",
        help="only cases whose task[name] has these, with `and`, `or`, `not` and ( ) as in pytest",
    )


def selected_cases(args: argparse.Namespace, options: Options) -> list[Case]:
    """The cases of a selection.

    Raises:
        BobError: A backbone, dataset, scale or task is unknown, or the words are no expression.
    """
    has = named_by(args.words)
    plan = Plan(installed_backbones(load_catalog(options.catalogs)), options.selection)
    for task in args.task:
        if task not in plan.scale.tasks:
            raise unknown(f"task of scale {plan.scale.key}", task, plan.scale.tasks)
    return [
        case
        for case in plan.all_cases()
        if (not args.task or case.task in args.task) and has(f"{case.task}[{case.name}]".lower())
    ]


def named_by(words: str) -> Callable[[str], bool]:
    """Whether a name is one that pytest's ``-k`` would choose by these words."""
    if not words.strip():
        return lambda name: True
    # of pytest's own, so that both commands choose alike; it has no public name
    from _pytest.mark.expression import Expression

    try:
        expression = Expression.compile(words.lower())
    except SyntaxError as error:
        raise BobError(
            f"-k {words!r}: {error.msg or error}. Write words with and, or, not."
        ) from None

    def has(name: str) -> bool:
        return expression.evaluate(lambda word, /, **options: word in name)

    return has
