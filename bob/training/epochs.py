"""Training a classifier epoch by epoch, scored after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from bob.case import Progress
from bob.training.environment import system_metrics
from bob.training.loop import Loop


@dataclass(frozen=True)
class Epochs:
    """What a training gave.

    Attributes:
        history: Training and test values of every epoch.
        logits: Of the test images after the last one, ``(n, classes)``.
        evaluate_seconds: Spent on scoring.
    """

    history: tuple[dict[str, float], ...]
    logits: torch.Tensor
    evaluate_seconds: float

    def metrics(self, *names: str, best: str) -> dict[str, float]:
        """Values of the last epoch, and where the first of them was highest.

        Args:
            names: Which values; the first is the score.
            best: Name of the score's highest value; ``best_epoch`` counts from 1.
        """
        scores = [values[names[0]] for values in self.history]
        top = max(range(len(scores)), key=scores.__getitem__)
        last = {name: self.history[-1][name] for name in names}
        return {**last, best: scores[top], "best_epoch": float(top + 1)}


def train_and_score(
    loop: Loop,
    images: Iterable[torch.Tensor],
    score: Callable[[torch.Tensor], dict[str, float]],
) -> Epochs:
    """Run every epoch of a loop.

    Args:
        loop: The training.
        images: Normalised test images, batch by batch, as often as asked for.
        score: Metrics of the logits of all of them.

    Raises:
        TrainingDiverged: The loss is no longer finite.
    """
    found = loop.checkpoint.found("epochs") or {"history": [], "seconds": 0.0}
    history: list[dict[str, float]] = found["history"]
    seconds: float = found["seconds"]
    logits = torch.empty(0)
    epochs = loop.recipe.epochs
    for epoch, values in enumerate(history):
        loop.emit(Progress(phase="epoch", epoch=epoch, epochs=epochs, metrics=values))
    with (
        loop.checkpoint.live("epochs", lambda: {"history": history, "seconds": seconds}),
        loop.live(),
    ):
        for epoch in range(loop.begins, epochs):
            values = loop.epoch(epoch)
            start = time.perf_counter()
            loop.emit(Progress(phase="evaluate", epoch=epoch, epochs=epochs))
            logits = loop.predict(loop.scoring(images))
            values |= score(logits)
            seconds += time.perf_counter() - start
            history.append(values)
            metrics = {**values, **system_metrics(loop.fabric.device)}
            loop.emit(Progress(phase="epoch", epoch=epoch, epochs=epochs, metrics=metrics))
    return Epochs(tuple(history), logits, seconds)


def training_metrics(loop: Loop) -> dict[str, float]:
    """What training itself tells."""
    return {
        "images_per_second": loop.images_seen / max(loop.train_seconds, 1e-9),
        **loop.split_metrics,
    }
