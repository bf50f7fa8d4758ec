"""Image retrieval by cosine similarity of frozen features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, frozen_passes
from bob.record import Record


class RetrievalRecipe(Record):
    """Search by cosine similarity.

    Attributes:
        image_size: Height and width fed to backbones that accept any size; none for their own.
        ks: Depths of recall, hit rate and precision.
        setting: Which positives count where a dataset grades them: ``easy``, ``medium``, ``hard``.
    """

    image_size: int | None = Field(default=None, ge=8)
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
)
