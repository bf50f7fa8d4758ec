"""Logistic regression on frozen features, its strength chosen on train."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, frozen_passes

REFINING_FITS = 5
"""Fits behind the path: the best value and its neighbours, the choice between them, all rows."""


def dinov2_grid() -> tuple[float, ...]:
    """Inverse regularisation strengths of DINOv2's evaluation: 45 from 1e-6 to 1e5, ascending."""
    return tuple(float(f"{10 ** (-6 + 11 * step / 44):.6g}") for step in range(45))


class ProbeRecipe(SizedRecipe):
    """Logistic regression on frozen features; the defaults are DINOv2's grid of 45 values.

    Attributes:
        c: Inverse regularisation strengths, ascending, between which one is chosen: what a summed
            cross-entropy weighs against half the squared norm of the weights.
        holdout: Share of the train split the choice is made on.
    """

    c: tuple[float, ...] = Field(default_factory=dinov2_grid, min_length=1)
    holdout: float = Field(default=0.1, gt=0, lt=1)


def work(recipe: ProbeRecipe, sizes: Sizes) -> Work:
    """One pass over train and test; every strength is solved, five times more around the choice."""
    passes = {"train": sizes.train, "test": sizes.test}
    return frozen_passes(recipe.image_size, passes, sizes, fits=len(recipe.c) + REFINING_FITS)


SPEC = ProtocolSpec(
    name="linear_probe",
    runner="bob.tasks.linear_probe:run",
    recipe=ProbeRecipe,
    work=work,
    judged=(
        Judged("top1", "proportion"),
        Judged("test_loss", "positive", higher_is_better=False),
    ),
    description="logistic regression on frozen features, regularisation chosen on train",
    seeded=False,
    version=2,
    extraction=EXTRACTION,
    spreads=True,
)
