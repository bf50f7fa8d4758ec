"""Image retrieval by cosine similarity of frozen features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, frozen_passes


class RetrievalRecipe(SizedRecipe):
    """Search by cosine similarity.

    Attributes:
        ks: Depths of recall, hit rate and precision.
        setting: Which positives count where a dataset grades them: ``easy``, ``medium``, ``hard``.
    """

    ks: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1)
    setting: Literal["easy", "medium", "hard"] = "medium"


def work(recipe: RetrievalRecipe, sizes: Sizes) -> Work:
    """One pass over database and queries."""
    return frozen_passes(recipe.image_size, {"database": sizes.train, "queries": sizes.test}, sizes)


SPEC = ProtocolSpec(
    name="retrieval",
    runner="bob.tasks.retrieval:run",
    recipe=RetrievalRecipe,
    work=work,
    judged=(Judged("map", "bounded"), Judged("mrr", "bounded")),
    description="image retrieval by cosine similarity of frozen features",
    seeded=False,
    data="retrieval",
    extraction=EXTRACTION,
    spreads=True,
)
