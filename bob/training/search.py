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
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.checkpoints.encoding import State
from bob.checkpoints.randomness import Randomness
from bob.datasets.subsets import Indices, held_out
from bob.errors import BobError, GridDiverged, TrainingDiverged
from bob.protocols.grid import RateGrid, Searchable
from bob.tabular import csv_bytes

Recipe = TypeVar("Recipe", bound=Searchable)


def choose(
    recipe: Recipe,
    grid: RateGrid,
    attempt: Callable[[Recipe, CaseCheckpoint], Mapping[str, float]],
    *,
    score: str,
    loss: str = "",
    group: str = "",
    emit: Emit,
    checkpoint: CaseCheckpoint | None = None,
) -> tuple[Recipe, tuple[Trial, ...]]:
    """Try every setting and take the best.

    Every attempt starts from the state of the random generators that this call finds, and leaves
    it so: what is trained afterwards is what the chosen recipe alone would have given.

    Args:
        recipe: What the settings are put into.
        grid: The settings.
        attempt: Trains under a recipe, with the checkpoint of this attempt, and gives the held-out
            metrics; may raise ``TrainingDiverged``.
        score: The metric that decides; higher is better.
        loss: The metric that decides among equals; lower is better. The grid's order is last.
        group: What the choice is for, where a case makes several, such as a low-shot draw.
        emit: Receives how far it is.
        checkpoint: Keeps the attempts that are done.

    Returns:
        The recipe with the chosen setting and without a grid, and a record of every attempt.

    Raises:
        GridDiverged: No setting gave finite metrics; carries the records.
    """
    checkpoint = checkpoint or CaseCheckpoint()
    settings = grid.settings()
    trials = _done(checkpoint)
    for index in range(len(trials), len(settings)):
        emit(Progress(phase="search", step=index, steps=len(settings)))
        with checkpoint.part(f"setting {index}") as part:
            trial = _tried(_with(recipe, settings[index]), settings[index], attempt, part)
        trials.append(replace(trial, group=group))
        _keep(checkpoint, trials)
        checkpoint.step()
    sound = [index for index, trial in enumerate(trials) if not trial.failure]
    if not sound:
        raise GridDiverged(_all_diverged(trials, group), trials=tuple(trials))

    def rank(index: int) -> tuple[float, float, int]:
        metrics = trials[index].metrics
        return -metrics[score], metrics.get(loss, 0.0), index

    best = min(sound, key=rank)
    trials[best] = replace(trials[best], chosen=True)
    return _with(recipe, settings[best]), tuple(trials)


def _tried(
    recipe: Recipe,
    setting: Mapping[str, float],
    attempt: Callable[[Recipe, CaseCheckpoint], Mapping[str, float]],
    checkpoint: CaseCheckpoint,
) -> Trial:
    """The record of one attempt."""
    start = perf_counter()
    metrics: Mapping[str, float] = {}
    failure = ""
    with same_randomness():
        try:
            metrics = attempt(recipe, checkpoint)
            if not all(map(math.isfinite, metrics.values())):
                failure = "the held-out metrics are not finite"
        except TrainingDiverged as error:
            failure = str(error)
    seconds = perf_counter() - start
    return Trial(params=setting, metrics=dict(metrics), failure=failure, seconds=seconds)


def _done(checkpoint: CaseCheckpoint) -> list[Trial]:
    """The attempts that a checkpoint holds; the random generators go where it says they stood."""
    found = checkpoint.found("search")
    if found is not None:
        Randomness.of(found["randomness"]).put()
    trials = [Trial(**values) for values in found["trials"]] if found is not None else []
    _keep(checkpoint, trials)
    return trials


def _keep(checkpoint: CaseCheckpoint, trials: Sequence[Trial]) -> None:
    plain = [plain_trial(trial) for trial in trials]
    checkpoint.keep("search", {"trials": plain, "randomness": Randomness.now().plain()})


def plain_trial(trial: Trial) -> State:
    """A record as plain data: the arguments of another one like it."""
    return {**vars(trial), "params": dict(trial.params), "metrics": dict(trial.metrics)}


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
