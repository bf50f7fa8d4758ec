"""Scores over low-shot draws, whatever learnt from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from bob.datasets import ClassificationData
from bob.datasets.subsets import Draws, labels_digest
from bob.tabular import csv_bytes


def draw_metrics(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean over everything, and mean and standard deviation over the draws of each setting."""
    means = {setting: fmean(values) for setting, values in scores.items()}
    spreads = {
        f"spread_{setting}": stdev(values) for setting, values in scores.items() if len(values) > 1
    }
    named = {f"top1_{setting}": value for setting, value in means.items()}
    return {"top1": fmean(means.values()), **named, **spreads}


def draw_files(
    scores: Mapping[str, Sequence[float]], draws: Draws, data: ClassificationData
) -> dict[str, bytes]:
    """Score of each draw, and which train images it is made of."""
    rows = [
        (setting, draw, len(draws[setting][draw]), value)
        for setting, values in scores.items()
        for draw, value in enumerate(values)
    ]
    record = {
        "sha256": data.sha256,
        "labels": labels_digest(data.train.targets),
        "draws": {name: [one.tolist() for one in many] for name, many in draws.items()},
    }
    return {
        "low_shot.csv": csv_bytes(("setting", "draw", "images", "top1"), rows),
        "draws.json": json.dumps(record).encode(),
    }
