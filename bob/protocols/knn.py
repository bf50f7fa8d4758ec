"""Weighted vote of the nearest train images in frozen features."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, frozen_passes


class KnnRecipe(SizedRecipe):
    """Weighted nearest-neighbour vote; the defaults are DINO's.

    Attributes:
        k: Neighbours of the judged score.
        others: Further numbers of neighbours, recorded as ``top1_k<N>``.
        temperature: Votes weigh ``exp(cosine / temperature)``.
    """

    k: int = Field(default=20, ge=1)
    others: tuple[int, ...] = (10, 100, 200)
    temperature: float = Field(default=0.07, gt=0)


def work(recipe: KnnRecipe, sizes: Sizes) -> Work:
    """One pass over train and test."""
    return frozen_passes(recipe.image_size, {"train": sizes.train, "test": sizes.test}, sizes)


SPEC = ProtocolSpec(
    name="knn",
    runner="bob.tasks.knn:run",
    recipe=KnnRecipe,
    work=work,
    judged=(Judged("top1", "proportion"), Judged("vote_share", "bounded")),
    description="weighted vote of the nearest train images in frozen features",
    seeded=False,
    extraction=EXTRACTION,
    spreads=True,
)
