"""The released checkpoint's own classifier, nothing learnt."""

from __future__ import annotations

from bob.protocols.recipe import Recipe
from bob.protocols.spec import Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work


class ReleasedRecipe(Recipe):
    """The released classifier, read as its release says: there is nothing to set."""


def work(recipe: ReleasedRecipe, sizes: Sizes) -> Work:
    """The test split and every shifted target, forward."""
    return Work(side=sizes.side, forward=sizes.test + sizes.shifted)


SPEC = ProtocolSpec(
    name="eval_released",
    runner="bob.tasks.eval_released:run",
    recipe=ReleasedRecipe,
    work=work,
    judged=(
        Judged("top1", "proportion"),
        Judged("test_loss", "positive", higher_is_better=False),
        Judged("shifted_top1", "bounded", kinds=("shift",)),
    ),
    description="the released checkpoint's own classifier, nothing learnt",
    seeded=False,
    released_head=True,
)
