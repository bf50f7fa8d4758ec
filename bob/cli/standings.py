"""How far the cases of a selection are, as a table, for machines, and in hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bob.cost.model import Estimate
from bob.standings import WORST_FIRST, CaseStanding
from bob.tabular import aligned


def table(found: Sequence[CaseStanding]) -> str:
    """A row a case, and a line for the whole."""
    rows = [("task", "name", "state", "runs", "verdict", "newest result (UTC)", "why")]
    rows += [
        (
            standing.case.task,
            standing.case.name,
            standing.state.value,
            standing.seeds,
            standing.verdict,
            standing.last,
            standing.why,
        )
        for standing in found
    ]
    counts = Counter(standing.state for standing in found)
    told = [f"{counts[state]} {state.value}" for state in reversed(WORST_FIRST) if counts[state]]
    return "\n".join([*aligned(rows), f"{len(found)} cases: {'; '.join(told)}"])


def record(found: Sequence[CaseStanding], rest: Sequence[Estimate]) -> list[dict[str, Any]]:
    """The same for machines.

    Args:
        found: A standing a case.
        rest: What is to run costs, of the cases that are not done, in their order.
    """
    costs = {estimated.case.id: estimated.hours for estimated in rest}
    return [
        {
            "task": standing.case.task,
            "name": standing.case.name,
            "scale": standing.case.scale,
            "state": standing.state.name.lower(),
            "why": standing.why,
            "verdict": standing.verdict,
            "to_run": standing.to_run,
            "gpu_hours": costs.get(standing.case.id, None if standing.to_run else 0.0),
            "runs": [
                {
                    "seed": run.case.seed,
                    "role": run.role,
                    "state": run.standing.state.name.lower(),
                    "session": run.recorded.session if run.recorded else "",
                    "time": run.recorded.time if run.recorded else "",
                }
                for run in standing.runs
            ],
        }
        for standing in found
    ]
