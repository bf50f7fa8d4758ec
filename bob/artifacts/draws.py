"""Low-shot draws and their scores as files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from bob.artifacts.classes import NAME as CLASSES
from bob.artifacts.classes import class_table
from bob.case import Content
from bob.datasets import ClassificationData
from bob.datasets.subsets import Draws, labels_digest
from bob.metrics.draws import DrawScore, Scores, mean_class_accuracies
from bob.tabular import csv_bytes


def draw_files(scores: Scores, draws: Draws, data: ClassificationData) -> dict[str, Content]:
    """Scores of each draw and of each class, and which train images a draw is made of."""
    return {
        "low_shot.csv": lambda: _scores(scores, draws),
        "draws.json": lambda: _draws(draws, data),
        CLASSES: lambda: _classes(scores, data),
    }


def _scores(scores: Scores, draws: Draws) -> bytes:
    names = list(dict.fromkeys(name for score in _all(scores) for name in score.calibration))
    rows = [
        (
            setting,
            draw,
            len(draws[setting][draw]),
            score.top1,
            *(score.calibration.get(name, "") for name in names),
        )
        for setting, values in scores.items()
        for draw, score in enumerate(values)
    ]
    return csv_bytes(("setting", "draw", "images", "top1", *names), rows)


def _draws(draws: Draws, data: ClassificationData) -> bytes:
    record = {
        "sha256": data.sha256,
        "labels": labels_digest(data.train.targets),
        "draws": {name: [rows.tolist() for rows in picks] for name, picks in draws.items()},
    }
    return json.dumps(record).encode()


def _classes(scores: Scores, data: ClassificationData) -> bytes:
    counts = data.test.targets.bincount(minlength=len(data.class_names)).tolist()
    return class_table(mean_class_accuracies(scores), counts, data.class_names)


def _all(scores: Scores) -> Iterator[DrawScore]:
    return itertools.chain.from_iterable(scores.values())
