"""Object detection learnt on a source, read on shifted targets."""

from __future__ import annotations

from typing import Literal

from bob.protocols.detection import DetectionRecipe, work
from bob.protocols.spec import Judged, ProtocolSpec


class ShiftedDetectionRecipe(DetectionRecipe):
    """Detection under shift; boxes only, as in hsouri/bob-ood-detection."""

    masks: bool = False
    augmentation: Literal["multiscale", "lsj", "none"] = "lsj"


SPEC = ProtocolSpec(
    name="ood_detection",
    runner="bob.tasks.ood_detection:run",
    recipe=ShiftedDetectionRecipe,
    work=work,
    judged=(
        Judged("shifted_box_ap", "bounded"),
        Judged("train_loss", "positive", higher_is_better=False),
    ),
    description="object detection learnt on a source, read on shifted targets",
    data="detection_shift",
    spreads=True,
)
