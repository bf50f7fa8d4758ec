"""Cases with a grid."""

from __future__ import annotations

from dataclasses import replace

from bob.case import Case, Context
from bob.protocols.grid import Grid

QUIET = Context(accelerator="cpu")
DIVERGES = 1e30


def with_grid(case: Case, *, lr: tuple[float, ...], weight_decay: tuple[float, ...]) -> Case:
    recipe = case.recipe.model_copy(update={"grid": Grid(lr=lr, weight_decay=weight_decay)})
    return replace(case, recipe=recipe)
