"""Object detection and instance segmentation on a frozen backbone."""

from __future__ import annotations

from bob.protocols.detection import JUDGED, DetectionRecipe, work
from bob.protocols.spec import ProtocolSpec


class FrozenDetectionRecipe(DetectionRecipe):
    """Detection on a backbone that is left as it is."""

    frozen: bool = True


SPEC = ProtocolSpec(
    name="detection_frozen",
    runner="bob.tasks.detection_frozen:run",
    recipe=FrozenDetectionRecipe,
    work=work,
    judged=JUDGED,
    description="object detection and instance segmentation on a frozen backbone",
    data="detection",
    spreads=True,
)
