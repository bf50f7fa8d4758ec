"""The engines by name: who builds a detector."""

from __future__ import annotations

from torch import nn

from bob.backbones import Backbone
from bob.protocols.detection import DetectionRecipe


def build_detector(backbone: Backbone, recipe: DetectionRecipe, classes: int) -> nn.Module:
    """The detector of a recipe; the backbone's module is used in place.

    Raises:
        BobError: The engine is not installed (``kind`` is ``unavailable``) or broken, or the
            backbone has no maps the recipe's pyramid can be made of.
    """
    detector: nn.Module
    if recipe.engine == "detectron2":
        from bob.detection import detectron2_engine

        detectron2_engine.require_detectron2()
        detector = detectron2_engine.build(backbone, recipe, classes)
    else:
        from bob.detection import torchvision_engine

        detector = torchvision_engine.build(backbone, recipe, classes)
    return detector
