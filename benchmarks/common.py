"""Parts the scripts share."""

from __future__ import annotations

import argparse
from pathlib import Path

from bob.case import Case, Context
from bob.catalog import load_catalog
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.plan import Plan, Selection
from bob.references.files import BUILTIN, ReferenceStore
from bob.tracking import NoTracker


def smoke_cases(match: str = "", task: str | None = None) -> list[Case]:
    """The smoke cases whose name contains ``match``, of every task or of one."""
    cases = Plan(load_catalog(), Selection()).all_cases()
    return [case for case in cases if match in case.name and task in (None, case.task)]


def evaluator(
    accelerator: str = "auto", precision: str = "auto", references: Path = BUILTIN
) -> Evaluator:
    """An evaluator over the packaged references that records nothing."""
    return Evaluator(
        executor=make_executor("inline"),
        context=Context(accelerator=accelerator, precision=precision),
        store=ReferenceStore(references),
        tracker=NoTracker(),
    )


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A command line headed by the script's docstring."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("-k", dest="match", default="", help="only cases whose name contains this")
    made.add_argument("--accelerator", default="auto")
    made.add_argument("--precision", default="auto")
    return made
