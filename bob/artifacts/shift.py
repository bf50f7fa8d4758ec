"""Accuracy under shift as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bob.artifacts.plots import shift_picture
from bob.case import Case, Content
from bob.metrics.shift import ShiftScore
from bob.tabular import csv_bytes


def shift_files(case: Case, scores: Sequence[ShiftScore]) -> dict[str, Content]:
    """Every target as a table and a picture."""
    rows = [
        (
            score.shift.name,
            score.shift.group,
            score.shift.severity,
            len(score.shift.split),
            score.top1,
            score.loss,
            score.source_top1,
            score.source_top1 - score.top1,
        )
        for score in scores
    ]
    header = ("shift", "group", "severity", "images", "top1", "loss", "source_top1", "gap")
    cells = [(score.shift.group, score.shift.severity, score.top1) for score in scores]
    return {
        "shifts.csv": lambda: csv_bytes(header, rows),
        "shifts.png": lambda: shift_picture(
            case, cells, fmean(score.source_top1 for score in scores)
        ),
    }
