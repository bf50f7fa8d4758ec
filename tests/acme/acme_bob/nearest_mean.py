"""Nearest class mean on frozen features: what is measured. Imports nothing heavy."""

from __future__ import annotations

from bob.protocols import Judged, ProtocolSpec, Recipe, Sizes, Work


class NearestMeanRecipe(Recipe):
    """Every image goes to the class whose mean feature is nearest.

    Attributes:
        image_size: Height and width fed to backbones that accept any size.
    """

    image_size: int | None = None


def work(recipe: NearestMeanRecipe, sizes: Sizes) -> Work:
    """One pass over train and test."""
    side = float(recipe.image_size or sizes.own_side)
    return Work(side=side, passes={"train": sizes.train, "test": sizes.test})


SPEC = ProtocolSpec(
    name="nearest_mean",
    runner="acme_bob.run_nearest_mean:run",
    recipe=NearestMeanRecipe,
    judged=(Judged("top1", "proportion"),),
    description="nearest class mean in frozen features",
    seeded=False,
    work=work,
)
