"""The seeds of a case beside its band, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from bob.artifacts.lettering import label, png
from bob.artifacts.plots import subject
from bob.case import Case, Result, Verdict

_PANEL = 2.4


def seeds_picture(case: Case, results: Sequence[Result], verdict: Verdict) -> bytes:
    """Every judged metric in a panel: each seed's value, their mean, and the band if there is one.

    Args:
        case: For title and metrics; its seed does not matter.
        results: One a seed, without failures.
        verdict: Gives the bands.
    """
    names = [metric.name for metric in case.judged]
    bands = {comparison.metric: comparison for comparison in verdict.comparisons}
    width = 0.6 + _PANEL * len(names)
    figure = Figure(figsize=(width, 3.4), dpi=100)
    figure.subplots_adjust(left=0.7 / width, right=0.98, bottom=0.17, top=0.8, wspace=0.55)
    seeds = [result.case.seed for result in results]
    places = range(len(seeds))
    for position, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), position)
        values = [result.metrics.get(name, math.nan) for result in results]
        band = bands.get(name)
        if band is not None and math.isfinite(band.low) and math.isfinite(band.high):
            axes.axhspan(band.low, band.high, color="tab:blue", alpha=0.15, linewidth=0)
            axes.axhline(band.reference, color="tab:blue", linewidth=1, linestyle="--")
        axes.plot(places, values, "o", color="black", markersize=4)
        axes.axhline(sum(values) / len(values), color="tab:orange", linewidth=1.2)
        axes.set_xticks(list(places), [str(seed) for seed in seeds], fontsize=7, rotation=90)
        axes.set_xlabel("seed", fontsize=8)
        axes.tick_params(axis="y", labelsize=7)
        axes.margins(x=0.15, y=0.2)
        axes.set_title(label(name, 24), fontsize=9)
        axes.grid(axis="y", alpha=0.3)
    has_band = bool(bands)
    words = "dots: seeds; orange: their mean"
    if has_band:
        words += "; blue: band of a mean of so many seeds; dashed: reference"
    figure.suptitle(f"{subject(case)}: {verdict.status.value}\n{words}", fontsize=9)
    return png(figure)
