"""Accuracy on each class as a table, the worst class first."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from bob.case import Content, Outcomes
from bob.tabular import csv_bytes

NAME = "classes.csv"


def class_table(
    accuracies: Mapping[int, float], counts: Sequence[int], class_names: Sequence[str]
) -> bytes:
    """Accuracy by class as CSV, ascending; equal ones in the order of the classes.

    Args:
        accuracies: By class, of the classes that have a test image.
        counts: Test images of each class.
        class_names: One name per class.
    """
    rows = [
        (class_names[label], counts[label], accuracies[label])
        for label in sorted(accuracies, key=lambda label: (accuracies[label], label))
    ]
    return csv_bytes(("class", "test_images", "top1"), rows)


def outcome_files(outcomes: Outcomes) -> dict[str, Content]:
    """The file of per-sample outcomes."""

    def table() -> bytes:
        from bob.metrics.calibration import class_accuracies

        counts = np.bincount(outcomes.targets, minlength=len(outcomes.class_names))
        accuracies = class_accuracies(outcomes.targets, outcomes.correct)
        return class_table(accuracies, counts.tolist(), outcomes.class_names)

    return {NAME: table}


def worst_class(files: Mapping[str, bytes]) -> str | None:
    """Name of the class that ``worst_class_top1`` is the accuracy on.

    Args:
        files: Those of a result.

    Returns:
        The first of those with the lowest accuracy, in the order of the classes; none where the
        case has no such file.
    """
    if NAME not in files:
        return None
    table = csv.DictReader(io.StringIO(files[NAME].decode(), newline=""))
    try:
        return next((row.get("class") for row in table), None)
    except csv.Error:  # a name of more than 128 KiB
        return None
