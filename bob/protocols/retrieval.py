"""Image retrieval by cosine similarity of frozen features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec


class RetrievalRecipe(SizedRecipe):
    """Search by cosine similarity.

    Attributes:
        ks: Depths of recall, hit rate and precision.
        setting: Which positives count where a dataset grades them: ``easy``, ``medium``, ``hard``.
    """

    ks: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1)
    setting: Literal["easy", "medium", "hard"] = "medium"


SPEC = ProtocolSpec(
    name="retrieval",
    runner="bob.tasks.retrieval:run",
    recipe=RetrievalRecipe,
    judged=(Judged("map", "angular"), Judged("mrr", "angular", margin=0.01)),
    description="image retrieval by cosine similarity of frozen features",
    seeded=False,
    data="retrieval",
    extraction=EXTRACTION,
)
