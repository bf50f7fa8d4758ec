"""Logistic regression on frozen features of a few train images."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, frozen_passes


class LowShotRecipe(SizedRecipe):
    """Probes of a few train images.

    Attributes:
        shots: Images per class.
        fractions: Shares of the train split, balanced over classes.
        draws: Fixed draws of each setting.
        c: Inverse regularisation strength, on features brought to unit mean square.
    """

    shots: tuple[int, ...] = (1, 5, 10)
    fractions: tuple[float, ...] = (0.01, 0.1)
    draws: int = Field(default=5, ge=1)
    c: float = Field(default=1.0, gt=0)


def work(recipe: LowShotRecipe, sizes: Sizes) -> Work:
    """One pass over train and test; every draw of every setting is solved."""
    passes = {"train": sizes.train, "test": sizes.test}
    fits = recipe.draws * (len(recipe.shots) + len(recipe.fractions))
    return frozen_passes(recipe.image_size, passes, sizes, fits=fits)


SPEC = ProtocolSpec(
    name="low_shot",
    runner="bob.tasks.low_shot:run",
    recipe=LowShotRecipe,
    work=work,
    judged=(Judged("top1", "proportion"),),
    description="logistic regression on frozen features of a few train images",
    seeded=False,
    extraction=EXTRACTION,
    spreads=True,
)
