"""What every backbone scored in every setting of a scale, from references alone."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev

from bob.protocols import PROTOCOLS
from bob.references.files import Reference, ReferenceStore


def profile_table(
    store: ReferenceStore, scale: str, *, backbones: Iterable[str] = ()
) -> list[tuple[str, ...]]:
    """Settings as rows, backbones as columns; mean and standard deviation of each score.

    A score measured once, because nothing in it is random, has no deviation.

    Args:
        store: Where the references are.
        scale: Key of the scale.
        backbones: Which, in this order; all by default.

    Returns:
        Header and rows of cells; ``-`` where there is no reference.
    """
    scores: dict[str, dict[str, Reference]] = {}
    for file, setting, reference in store.all(scale):
        if setting.split("/", 1)[0] in PROTOCOLS:
            scores.setdefault(setting, {})[file.backbone] = reference
    names = list(backbones) or sorted({name for row in scores.values() for name in row})
    order = {task: position for position, task in enumerate(PROTOCOLS)}
    rows = [("setting", "score", *names)]
    for setting in sorted(scores, key=lambda one: (order[one.split("/", 1)[0]], one)):
        metric = PROTOCOLS[setting.split("/", 1)[0]].metric
        cells = (
            _cell(scores[setting][name].metric(metric)) if name in scores[setting] else "-"
            for name in names
        )
        rows.append((setting, metric, *cells))
    return rows


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.3f}" if len(set(values)) > 1 else ""
    return f"{fmean(values):.3f}{spread}"
