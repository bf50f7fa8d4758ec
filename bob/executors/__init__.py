"""Where cases run: in this process, or wherever an executor takes them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

from bob.case import Case, Context, Progress, Result
from bob.errors import unknown

EXECUTORS = {"inline": "bob.executors.inline:InlineExecutor"}


class Handle(Protocol):
    """A submitted case."""

    def result(self, emit: Callable[[Progress], None]) -> Result:
        """Wait for the case; progress arrives at ``emit`` meanwhile, in the calling thread."""


class Executor(Protocol):
    """Runs cases through ``run_case``."""

    def submit(self, case: Case, context: Context) -> Handle:
        """Take a case; it may start at once or when its result is asked for."""

    def shutdown(self, *, cancel: bool) -> None:
        """Let go of everything; with ``cancel``, of running cases too."""


def executor_names() -> list[str]:
    """Built-in executors and those that packages register under ``bob.executors``."""
    return sorted({*EXECUTORS, *(point.name for point in entry_points(group="bob.executors"))})


def make_executor(name: str) -> Executor:
    """The executor of a name.

    Raises:
        BobError: No such executor; the nearest names are offered.
    """
    from bob.objects import import_object

    for point in entry_points(group="bob.executors"):
        if point.name == name:
            made: Executor = point.load()()
            return made
    if name not in EXECUTORS:
        raise unknown("executor", name, executor_names())
    executor: Executor = import_object(EXECUTORS[name], what=f"executor {name!r}")()
    return executor
