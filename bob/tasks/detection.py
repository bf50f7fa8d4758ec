"""Object detection and instance segmentation, everything fine-tuned."""

from __future__ import annotations

from bob.backbones import Backbone
from bob.datasets.detection import DetectionData
from bob.job import Job, TaskOutput
from bob.protocols.detection import DetectionRecipe
from bob.tasks._detecting import train_and_test


def run(job: Job[DetectionRecipe, DetectionData, Backbone]) -> TaskOutput:
    """Train detector and backbone and score them; see ``train_and_test``."""
    return train_and_test(job)
