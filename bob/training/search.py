"""Choosing a setting of the grid on held-out images of the train split, never on test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

import numpy as np
import torch

from bob.case import Content, Emit, Progress, Trial
from bob.datasets.subsets import Indices, held_out
from bob.errors import BobError, GridDiverged, TrainingDiverged
from bob.protocols.grid import RateGrid, Searchable
from bob.tabular import csv_bytes

Recipe = TypeVar("Recipe", bound=Searchable)


def choose(
    recipe: Recipe,
    grid: RateGrid,
    attempt: Callable[[Recipe], Mapping[str, float]],
    *,
    score: str,
    loss: str = "",
    group: str = "",
    emit: Emit,
) -> tuple[Recipe, tuple[Trial, ...]]:
    """Try every setting and take the best.

    Every attempt starts from the state of the random generators that this call finds, and leaves
    it so: what is trained afterwards is what the chosen recipe alone would have given.

    Args:
        recipe: What the settings are put into.
        grid: The settings.
        attempt: Trains under a recipe and gives the held-out metrics; may raise
            ``TrainingDiverged``.
        score: The metric that decides; higher is better.
        loss: The metric that decides among equals; lower is better. The grid's order is last.
        group: What the choice is for, where a case makes several, such as a low-shot draw.
        emit: Receives how far it is.

    Returns:
        The recipe with the chosen setting and without a grid, and a record of every attempt.

    Raises:
        GridDiverged: No setting gave finite metrics; carries the records.
    """
    trials: list[Trial] = []
    settings = grid.settings()
    for index, setting in enumerate(settings):
        emit(Progress(phase="search", step=index, steps=len(settings)))
        start = perf_counter()
        metrics: Mapping[str, float] = {}
        failure = ""
        with same_randomness():
            try:
                metrics = attempt(_with(recipe, setting))
                if not all(map(math.isfinite, metrics.values())):
                    failure = "the held-out metrics are not finite"
            except TrainingDiverged as error:
                failure = str(error)
        trials.append(
            Trial(
                params=setting,
                metrics=dict(metrics),
                group=group,
                failure=failure,
                seconds=perf_counter() - start,
            )
        )
    sound = [index for index, trial in enumerate(trials) if not trial.failure]
    if not sound:
        raise GridDiverged(_all_diverged(trials, group), trials=tuple(trials))

    def rank(index: int) -> tuple[float, float, int]:
        metrics = trials[index].metrics
        return -metrics[score], metrics.get(loss, 0.0), index

    best = min(sound, key=rank)
    trials[best] = replace(trials[best], chosen=True)
    return _with(recipe, settings[best]), tuple(trials)


def _with(recipe: Recipe, setting: Mapping[str, float]) -> Recipe:
    return recipe.model_copy(update={**setting, "grid": None})


def _all_diverged(trials: Sequence[Trial], group: str) -> str:
    where = f" of {group}" if group else ""
    tried = "; ".join(trial.label for trial in trials)
    return (
        f"Every setting of the grid{where} diverged: {tried}. The first: {trials[0].failure} Put "
        "lower learning rates into the grid."
    )


@contextmanager
def same_randomness() -> Iterator[None]:
    """Leave the global random generators of Python, NumPy and torch as they are found."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def split_for_choice(targets: torch.Tensor, grid: RateGrid) -> tuple[Indices, Indices]:
    """Positions to train every setting on and to choose on; see ``held_out``.

    Args:
        targets: Labels of the train split, ``(n,)``.
        grid: Gives the share to hold out.

    Raises:
        BobError: No class has two images.
    """
    fit, choice = held_out(targets, grid.holdout)
    if not len(choice):
        raise BobError(
            f"Nothing of {len(targets)} train images can be held out to choose on: no class has "
            "two. Run without the grid.",
            kind="dataset",
        )
    return fit, choice


def chosen_metrics(trials: Iterable[Trial]) -> dict[str, float]:
    """The chosen setting as metrics ``grid_lr``, ``grid_weight_decay`` and its held-out scores.

    Empty where a case made several choices.
    """
    chosen = [trial for trial in trials if trial.chosen]
    if len(chosen) != 1:
        return {}
    values = {**chosen[0].params, **chosen[0].metrics}
    return {f"grid_{name}": value for name, value in values.items()}


def grid_remarks(grid: RateGrid | None, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What a reader should know of the choices; nothing without a grid."""
    if grid is None:
        return ()
    lost = [trial for trial in trials if trial.failure]
    remarks = [f"{len(lost)} of {len(trials)} settings of the grid diverged"] if lost else []
    edges = {min(grid.lr), max(grid.lr)} if len(grid.lr) > 2 else set()
    chosen = sorted({trial.params["lr"] for trial in trials if trial.chosen} & edges)
    if chosen:
        rates = ", ".join(f"{rate:g}" for rate in chosen)
        remarks.append(f"lr {rates} was chosen at the edge of the grid; widen the grid's lr")
    return tuple(remarks)


def grid_files(trials: Sequence[Trial]) -> dict[str, Content]:
    """Every attempt as a table; nothing without attempts."""
    return {"grid.csv": lambda: _grid_table(trials)} if trials else {}


def _grid_table(trials: Sequence[Trial]) -> bytes:
    params = list(trials[0].params)
    metrics = sorted({name for trial in trials for name in trial.metrics})
    rows = [
        (
            trial.group,
            *(f"{trial.params[name]:g}" for name in params),
            *(trial.metrics.get(name, "") for name in metrics),
            int(trial.chosen),
            trial.failure,
        )
        for trial in trials
    ]
    return csv_bytes(("group", *params, *metrics, "chosen", "failure"), rows)
