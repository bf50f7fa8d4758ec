"""Pictures of one result, as PNG bytes. Drawn without pyplot, so that no global state is left."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bob.case import Outcomes, Result

_CELL_TEXT_LIMIT = 20


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


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
    figure = Figure(figsize=(5.6, 5.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= _CELL_TEXT_LIMIT:
        ticks = range(classes)
        axes.set_xticks(ticks, result.outcomes.class_names)
        axes.set_yticks(ticks, result.outcomes.class_names)
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(_title(result), fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return _png(figure)


def learning_curve(result: Result) -> bytes | None:
    """Loss and score by epoch; none without a history."""
    if not result.history:
        return None
    epochs = range(1, len(result.history) + 1)
    figure = Figure(figsize=(6.4, 3.4), dpi=100, layout="constrained")
    losses, scores = figure.subplots(1, 2)
    panels = (
        (losses, "loss", ("train_loss", "test_loss")),
        (scores, "accuracy on the test split", ("top1", "top5")),
    )
    for axes, label, names in panels:
        for name in names:
            if all(name in values for values in result.history):
                series = [values[name] for values in result.history]
                axes.plot(epochs, series, marker="o", markersize=3, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(_title(result), fontsize=10)
    return _png(figure)


def _title(result: Result) -> str:
    case = result.case
    return f"{case.backbone.key} · {case.setting} · {case.scale} · seed {case.seed}"
