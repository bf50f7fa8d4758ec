"""Weighted vote of the nearest train images in frozen features."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec


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


SPEC = ProtocolSpec(
    name="knn",
    runner="bob.tasks.knn:run",
    recipe=KnnRecipe,
    judged=(Judged("top1", "angular"), Judged("vote_share", "angular", margin=0.01)),
    description="weighted vote of the nearest train images in frozen features",
    seeded=False,
    extraction=EXTRACTION,
)
