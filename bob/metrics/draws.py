"""Scores over low-shot draws, whatever learnt from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev


def draw_metrics(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean over everything, and mean and standard deviation over the draws of each setting."""
    means = {setting: fmean(values) for setting, values in scores.items()}
    spreads = {
        f"spread_{setting}": stdev(values) for setting, values in scores.items() if len(values) > 1
    }
    named = {f"top1_{setting}": value for setting, value in means.items()}
    return {"top1": fmean(means.values()), **named, **spreads}
