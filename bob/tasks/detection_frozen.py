"""Object detection and instance segmentation on a frozen backbone."""

from __future__ import annotations

from bob.backbones import Backbone
from bob.datasets.detection import DetectionData
from bob.job import Job, TaskOutput
from bob.protocols.detection_frozen import FrozenDetectionRecipe
from bob.tasks._detecting import train_and_test


def run(job: Job[FrozenDetectionRecipe, DetectionData, Backbone]) -> TaskOutput:
    """Train a detector on the backbone as it is and score it; see ``train_and_test``."""
    return train_and_test(job)
