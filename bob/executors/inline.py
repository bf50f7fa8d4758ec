"""Cases run one after the other in this process; a debugger works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bob.case import Case, Context, Progress, Result
from bob.run import run_case


@dataclass(frozen=True)
class InlineHandle:
    """A case that runs when its result is asked for."""

    case: Case
    context: Context

    def result(self, emit: Callable[[Progress], None]) -> Result:
        """Run the case now."""
        return run_case(self.case, self.context, emit)


class InlineExecutor:
    """The default executor."""

    def submit(self, case: Case, context: Context) -> InlineHandle:
        """Remember the case."""
        return InlineHandle(case, context)

    def shutdown(self, *, cancel: bool) -> None:
        """Nothing is held."""
