"""A probe learnt on the source, read on shifted targets."""

from __future__ import annotations

from bob.protocols.linear_probe import REFINING_FITS, ProbeRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, frozen_passes


def work(recipe: ProbeRecipe, sizes: Sizes) -> Work:
    """One pass over train, test and every shifted target; every strength is solved, and refined."""
    passes = {"train": sizes.train, "test": sizes.test, "shifts": sizes.shifted}
    return frozen_passes(recipe.image_size, passes, sizes, fits=len(recipe.c) + REFINING_FITS)


SPEC = ProtocolSpec(
    name="ood",
    runner="bob.tasks.ood:run",
    recipe=ProbeRecipe,
    work=work,
    judged=(
        Judged("shifted_top1", "bounded"),
        Judged("top1", "proportion"),
        Judged("shifted_loss", "positive", higher_is_better=False),
    ),
    description="a probe learnt on the source, read on shifted targets",
    seeded=False,
    data="shift",
    version=2,
    extraction=EXTRACTION,
    spreads=True,
)
