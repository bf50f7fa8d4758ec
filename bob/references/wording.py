"""What a verdict says: the worst of its comparisons, in a sentence with the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from bob.case import Comparison, Status


def worst(statuses: Sequence[Status]) -> Status:
    """The worst of some statuses of comparisons."""
    order = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS)
    return min(statuses, key=order.index)


def reason(comparisons: Sequence[Comparison]) -> str:
    """Why the worst of the comparisons is what it is."""
    decided = worst([comparison.status for comparison in comparisons])
    named = [comparison for comparison in comparisons if comparison.status is decided]
    if decided is Status.PASS:
        return f"{named[0].metric} {named[0].value:.4f} is in its band {_edges(named[0])}"
    if decided is Status.INCONCLUSIVE:
        return (
            f"{named[0].metric} {named[0].value:.4f} is inside {_edges(named[0])} at the level of "
            "stage 2 but outside the narrower band of stage 1: neither unchanged nor worse. Run "
            "more seeds."
        )
    return "; ".join(
        f"{comparison.metric} {comparison.value:.4f} is "
        f"{'above' if comparison.value > comparison.reference else 'below'} its band "
        f"{_edges(comparison)}"
        for comparison in named
    )


def _edges(comparison: Comparison) -> str:
    return f"[{comparison.low:.4f}, {comparison.high:.4f}]"
