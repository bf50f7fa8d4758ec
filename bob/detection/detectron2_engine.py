"""Cascade (Mask) R-CNN under detectron2: the paper-grade engine, where it is installed.

detectron2 is imported when a detector is built, never before.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from bob.backbones import Backbone
from bob.datasets.instances import Target
from bob.detection.detectron2_model import model_config
from bob.detection.features import FeatureMaps
from bob.detection.masks import encode
from bob.detection.records import Detections
from bob.errors import BobError
from bob.protocols.detection import DetectionRecipe

INSTALL = (
    "python -m pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git'"
)


def require_detectron2() -> None:
    """Raise unless detectron2 can be used.

    Raises:
        BobError: It is not installed (``kind`` is ``unavailable``), or is and cannot be imported.
    """
    try:
        for part in ("detectron2", "detectron2.modeling", "detectron2.engine"):
            importlib.import_module(part)
    except ModuleNotFoundError as error:
        if error.name != "detectron2":
            raise _broken(error) from error
        raise BobError(
            f"detectron2 is not installed. Its official line is: {INSTALL}. Or run with "
            "--engine torchvision, which has references of its own.",
            kind="unavailable",
        ) from None
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> BobError:
    return BobError(
        f"detectron2 is installed but cannot be imported: {type(error).__name__}: {error}. Build "
        f"it anew against this torch ({torch.__version__}): {INSTALL}. Or run with --engine "
        "torchvision.",
        kind="import",
    )


class Detectron2Detector(nn.Module):
    """detectron2's generalised R-CNN over the suite's feature maps.

    Attributes:
        maps: The backbone's feature maps.
    """

    def __init__(self, backbone: Backbone, recipe: DetectionRecipe, classes: int) -> None:
        super().__init__()
        from detectron2.config import instantiate

        self.recipe = recipe
        self.maps = FeatureMaps.of(backbone, recipe)
        self.model: Any = instantiate(model_config(self.maps, backbone, recipe, classes))
        divisor = int(self.model.backbone.size_divisibility)
        if recipe.square and recipe.image_size % divisor:
            raise BobError(
                f"Backbone {backbone.key!r}: its pyramid under detectron2 takes squares whose side "
                f"is a multiple of {divisor}; the recipe's image_size is {recipe.image_size}.",
                kind="backbone",
            )

    def forward(self, images: Sequence[torch.Tensor], about: Sequence[Any]) -> Any:
        """Losses of a training batch, or detections; as ``TorchvisionDetector.forward``."""
        from detectron2.utils.events import EventStorage, has_event_storage

        if not self.training:
            inputs = [
                {"image": image, "height": size[0], "width": size[1]}
                for image, size in zip(images, about, strict=True)
            ]
            return [_detections(output["instances"]) for output in self.model(inputs)]
        inputs = [
            {"image": image, "instances": _instances(image, target)}
            for image, target in zip(images, about, strict=True)
        ]
        with nullcontext() if has_event_storage() else EventStorage():
            return self.model(inputs)


def build(backbone: Backbone, recipe: DetectionRecipe, classes: int) -> Detectron2Detector:
    """The detector of a recipe; as ``bob.detection.torchvision_engine.build``.

    Raises:
        BobError: The backbone's maps, or the recipe's strides or image size, do not fit a pyramid
            of detectron2's; ``kind`` is ``backbone``.
    """
    return Detectron2Detector(backbone, recipe, classes)


def _instances(image: torch.Tensor, target: Target) -> Any:
    from detectron2.structures import BitMasks, Boxes, Instances

    instances = Instances((int(image.shape[-2]), int(image.shape[-1])))
    instances.gt_boxes = Boxes(target.boxes)
    instances.gt_classes = target.labels
    if target.masks is not None:
        instances.gt_masks = BitMasks(target.masks)
    return instances


def _detections(found: Any) -> Detections:
    found = found.to("cpu")
    masks = encode(found.pred_masks) if found.has("pred_masks") else None
    return Detections(
        boxes=found.pred_boxes.tensor.float(),
        scores=found.scores.float(),
        labels=found.pred_classes,
        masks=masks,
    )
