"""A probe learnt on the source, read on shifted targets."""

from __future__ import annotations

from bob.protocols.linear_probe import ProbeRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec

SPEC = ProtocolSpec(
    name="ood",
    runner="bob.tasks.ood:run",
    recipe=ProbeRecipe,
    judged=(
        Judged("shifted_top1", "bounded"),
        Judged("top1", "proportion"),
        Judged("shifted_loss", "positive", higher_is_better=False),
    ),
    description="a probe learnt on the source, read on shifted targets",
    seeded=False,
    data="shift",
    extraction=EXTRACTION,
)
