"""The released checkpoint's own classifier, nothing learnt."""

from __future__ import annotations

from bob.protocols.spec import Judged, ProtocolSpec
from bob.record import Record


class ReleasedRecipe(Record):
    """The released classifier, read as its release says: there is nothing to set."""


SPEC = ProtocolSpec(
    name="eval_released",
    runner="bob.tasks.eval_released:run",
    recipe=ReleasedRecipe,
    judged=(
        Judged("top1", "proportion"),
        Judged("test_loss", "positive", higher_is_better=False),
        Judged("shifted_top1", "bounded", kinds=("shift",)),
    ),
    description="the released checkpoint's own classifier, nothing learnt",
    seeded=False,
    released_head=True,
)
