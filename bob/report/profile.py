"""What every backbone scored in every setting of a scale, from Score rows alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bob.intervals import mean, square_spread
from bob.ledger.score import Score
from bob.protocols import PROTOCOLS


def profile_table(
    scores: Iterable[Score], *, backbones: Iterable[str] = ()
) -> list[tuple[str, ...]]:
    """Settings as rows, backbones as columns; mean and standard deviation of each score.

    A score measured once, because nothing in it is random, has no deviation. Guards and settings of
    protocols that are not installed are left out.

    Args:
        scores: Rows of one scale, of any source.
        backbones: Which, in this order; all by default.

    Returns:
        Header and rows of cells; ``-`` where there is no score.
    """
    values: dict[str, dict[str, list[float]]] = {}
    metrics: dict[str, str] = {}
    for score in scores:
        if score.is_score and score.task in PROTOCOLS:
            row = values.setdefault(score.setting, {})
            row.setdefault(score.backbone, []).append(score.value)
            metrics[score.setting] = score.metric
    names = list(backbones) or sorted({name for row in values.values() for name in row})
    order = {task: position for position, task in enumerate(PROTOCOLS)}
    table = [("setting", "score", *names)]
    for setting in sorted(values, key=lambda name: (order[name.split("/", 1)[0]], name)):
        cells = (_cell(values[setting].get(name, [])) for name in names)
        table.append((setting, metrics[setting], *cells))
    return table


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {math.sqrt(square_spread(values)):.3f}" if len(set(values)) > 1 else ""
    return f"{mean(values):.3f}{spread}"
