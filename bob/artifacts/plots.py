"""Pictures of one result, as PNG bytes. Drawn without pyplot, so that no global state is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bob.artifacts.classes import worst_class
from bob.artifacts.lettering import label, labels, png
from bob.case import Case, Outcomes, Result

if TYPE_CHECKING:
    from bob.heads.probe import PathPoint

_CELL_TEXT_LIMIT = 20
_NAME_LIMIT = 16


def confusion_counts(outcomes: Outcomes) -> NDArray[np.int64]:
    """How often each true class (rows) was taken for each class (columns)."""
    classes = len(outcomes.class_names)
    flat = outcomes.targets * classes + outcomes.predictions
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def confusion_matrix(result: Result) -> bytes | None:
    """Confusion matrix, each row as a share of its class; none without outcomes."""
    if result.outcomes is None:
        return None
    counts = confusion_counts(result.outcomes)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = labels(result.outcomes.class_names, _NAME_LIMIT)
    shown = max(map(len, names)) if classes <= _CELL_TEXT_LIMIT else 3
    # Margins by hand: looking for them takes longer than drawing.
    margin = 0.45 + 0.085 * shown
    width, height = 4.9 + margin, 4.55 + margin
    figure = Figure(figsize=(width, height), dpi=100)
    figure.subplots_adjust(
        left=margin / width, right=1 - 0.2 / width, bottom=margin / height, top=1 - 0.5 / height
    )
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= _CELL_TEXT_LIMIT:
        ticks = range(classes)
        axes.set_xticks(ticks, names, rotation=90 if shown > 3 else 0)
        axes.set_yticks(ticks, names)
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    worst = worst_class(result.files)
    heading = title(result.case)
    share = result.metrics.get("worst_class_top1")
    if worst is not None and share is not None:
        heading += f"\nworst class: {label(worst, _NAME_LIMIT)}, top-1 {share:.3f}"
    axes.set_title(heading, fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return png(figure)


def learning_curve(result: Result) -> bytes | None:
    """Loss and score by epoch; none without a history."""
    if not result.history:
        return None
    epochs = range(1, len(result.history) + 1)
    figure = Figure(figsize=(6.8, 3.4), dpi=100)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.15, top=0.88, wspace=0.27)
    losses, scores = figure.subplots(1, 2)
    parts = tuple(name for name in result.history[-1] if name.startswith("loss_"))
    panels = (
        (losses, "loss", ("train_loss", "test_loss")),
        (scores, "parts of the loss", parts)
        if parts
        else (scores, "accuracy on the test split", ("top1", "top5")),
    )
    for axes, quantity, names in panels:
        for name in names:
            if all(name in values for values in result.history):
                series = [values[name] for values in result.history]
                axes.plot(epochs, series, marker="o", markersize=3, label=label(name))
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title(result.case), fontsize=10)
    return png(figure)


def regularisation_path(case: Case, path: Sequence[PathPoint], chosen: float) -> bytes:
    """Held-out accuracy and loss along the path, with the chosen strength marked."""
    figure = Figure(figsize=(6.8, 3.4), dpi=100)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.15, top=0.88, wspace=0.27)
    accuracy, loss = figure.subplots(1, 2)
    strengths = [point.c for point in path]
    for axes, quantity, values in (
        (accuracy, "held-out top-1", [point.top1 for point in path]),
        (loss, "held-out cross-entropy", [point.loss for point in path]),
    ):
        axes.semilogx(strengths, values, marker="o", markersize=3, label=quantity)
        axes.axvline(chosen, color="tab:red", linewidth=1, label=f"chosen {chosen:.3g}")
        axes.xaxis.set_major_formatter(_power)  # matplotlib's own writes formulas
        axes.set_xlabel("C (inverse regularisation)")
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
    expected = [point.expected_loss for point in path]
    loss.semilogx(strengths, expected, linewidth=1, color="tab:green", label="one image more")
    accuracy.legend(fontsize=8)
    loss.legend(fontsize=8)
    figure.suptitle(title(case), fontsize=10)
    return png(figure)


def _power(value: float, position: int) -> str:
    return f"1e{round(math.log10(value))}"


def shift_picture(case: Case, cells: Sequence[tuple[str, int, float]], source: float) -> bytes:
    """Accuracy on every shifted target: groups as rows, severities as columns.

    Args:
        case: For the title.
        cells: Group, severity and top-1 of each target.
        source: Accuracy on the source, for comparison.
    """
    groups = list(dict.fromkeys(group for group, _, _ in cells))
    severities = sorted({severity for _, severity, _ in cells})
    grid = np.full((len(groups), len(severities)), np.nan)
    for group, severity, value in cells:
        grid[groups.index(group), severities.index(severity)] = value
    names = labels(groups, 20)
    margin = max(1.25, 0.3 + 0.075 * max(map(len, names)))
    width, height = max(5.0, 1.55 + margin + 0.75 * len(severities)), 1.5 + 0.36 * len(groups)
    figure = Figure(figsize=(width, height), dpi=100)
    figure.subplots_adjust(
        left=margin / width, right=1 - 0.6 / width, bottom=0.55 / height, top=1 - 0.55 / height
    )
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(np.isfinite(grid)):
        value = grid[row, column]
        colour = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(len(groups)), names, fontsize=8)
    axes.set_xticks(
        range(len(severities)), [str(severity) if severity else "" for severity in severities]
    )
    if len(severities) > 1:
        axes.set_xlabel("severity")
    axes.set_title(f"{title(case)}\ntop-1 under shift; source {source:.3f}", fontsize=9)
    figure.colorbar(image, ax=axes, label="top-1")
    return png(figure)


def title(case: Case) -> str:
    """What a picture shows, in one line."""
    return f"{subject(case)} · seed {case.seed}"


def subject(case: Case) -> str:
    """Backbone, setting and scale."""
    parts = (label(case.backbone.key, 32), label(case.setting, 40), label(case.scale, 20))
    return " · ".join(parts)
