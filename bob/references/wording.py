"""What a verdict says: the worst of its comparisons, in a sentence with the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from bob.case import Comparison, Status

TOGETHER = "together"
"""Name of the comparison of all judged metrics as one."""


def worst(statuses: Sequence[Status]) -> Status:
    """The worst of some statuses of comparisons."""
    order = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS)
    return min(statuses, key=order.index)


def reason(comparisons: Sequence[Comparison]) -> str:
    """Why the worst of the comparisons is what it is."""
    decided = worst([comparison.status for comparison in comparisons])
    named = [comparison for comparison in comparisons if comparison.status is decided]
    if decided is Status.PASS:
        if named[0].improved:
            return f"{_outside(named[0])}, on its better side"
        return f"{named[0].metric} {named[0].value:.4f} is in its band {_edges(named[0])}"
    if decided is Status.INCONCLUSIVE:
        which = named[0].metric
        if which == TOGETHER:
            which = f"all judged metrics {TOGETHER},"
        return (
            f"{which} {named[0].value:.4f} is inside {_edges(named[0])} at the level of 1 % but "
            "outside the narrower band at 5 %: neither unchanged nor worse. Run more seeds."
        )
    return "; ".join(_outside(comparison) for comparison in named)


def too_near(score: Comparison, least: float) -> list[str]:
    """What to warn of where a score does not beat what its band cannot hold it against.

    Args:
        score: Comparison of the score.
        least: Chance or the mean of the twin, whichever is higher.
    """
    if score.value >= least or score.low >= least:
        return []
    return [
        f"{score.metric} {score.value:.4f} is no better than chance or than the same network "
        f"without pretraining ({least:.4f}). Its reference {score.reference:.4f} is not either, "
        "or too near to it, so that this decides nothing."
    ]


def _outside(comparison: Comparison) -> str:
    if comparison.metric == TOGETHER:
        return (
            f"all judged metrics {TOGETHER} are {-comparison.value:.2f} deviations worse on "
            f"average, of which {-comparison.low:.2f} are expected"
        )
    side = "above" if comparison.value > comparison.reference else "below"
    return f"{comparison.metric} {comparison.value:.4f} is {side} its band {_edges(comparison)}"


def _edges(comparison: Comparison) -> str:
    return f"[{comparison.low:.4f}, {comparison.high:.4f}]"
