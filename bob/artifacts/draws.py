"""Low-shot draws and their scores as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bob.datasets import ClassificationData
from bob.datasets.subsets import Draws, labels_digest
from bob.tabular import csv_bytes


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
        "draws": {name: [rows.tolist() for rows in picks] for name, picks in draws.items()},
    }
    return {
        "low_shot.csv": csv_bytes(("setting", "draw", "images", "top1"), rows),
        "draws.json": json.dumps(record).encode(),
    }
