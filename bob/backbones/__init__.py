"""Backbones: catalog entry to a feature extractor, or to the classifier it was released as."""

from bob.backbones.build import Backbone, build_backbone
from bob.backbones.released import ReleasedClassifier, build_released

__all__ = ["Backbone", "ReleasedClassifier", "build_backbone", "build_released"]
