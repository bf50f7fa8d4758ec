"""The released checkpoint's own classifier, nothing learnt."""

from __future__ import annotations

from bob.protocols.recipe import Recipe
from bob.protocols.spec import Judged, ProtocolSpec


class ReleasedRecipe(Recipe):
    """The released classifier, read as its release says: there is nothing to set."""


SPEC = ProtocolSpec(
    name="eval_released",
    runner="bob.tasks.eval_released:run",
    recipe=ReleasedRecipe,
    judged=(
        Judged("top1", "angular"),
        Judged("test_loss", "log", higher_is_better=False, margin=0.01),
        Judged("shifted_top1", "angular", margin=0.001, kinds=("shift",)),
    ),
    description="the released checkpoint's own classifier, nothing learnt",
    seeded=False,
    released_head=True,
)
