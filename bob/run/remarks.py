"""What keeps a score from saying much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from bob.case import Case, Outcomes
from bob.intervals import FEW_IMAGES, wilson


def score_remarks(
    case: Case, metrics: Mapping[str, float], outcomes: Outcomes | None, test_size: int
) -> tuple[str, ...]:
    """What keeps a share of test images from saying much: few of them, or one class in most.

    Args:
        case: The case.
        metrics: Its metrics.
        outcomes: Per-sample outcomes, if it has them.
        test_size: Images the score was read on.
    """
    score = metrics.get(case.metric, math.nan)
    if case.judged[0].unit != "proportion" or not test_size or not math.isfinite(score):
        return ()
    remarks = []
    if test_size < FEW_IMAGES:
        low, high = wilson(score, test_size)
        images = "image makes" if test_size == 1 else "images make"
        remarks.append(
            f"{test_size} test {images} a coarse score: the 95 % interval of {case.metric} "
            f"{score:.4f} is [{low:.2f}, {high:.2f}]"
        )
    if outcomes is not None:
        counts = Counter(outcomes.targets.tolist())
        largest, count = counts.most_common(1)[0]
        if len(counts) > 1 and round(score * test_size, 3) <= count:
            remarks.append(
                f"{case.metric} {score:.4f} is no more than always naming the class of most test "
                f"images gives ({outcomes.class_names[largest]!r}, {count / test_size:.4f})"
            )
    return tuple(remarks)
