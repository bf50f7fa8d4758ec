"""The classifier a checkpoint was released with, fed as its release says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.data import create_transform, resolve_data_config
from torch import nn

from bob.backbones.build import weights_digest
from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.factory import call_factory
from bob.backbones.timm_source import build_timm, current_name, timm_remarks
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = 1000
"""Classes of ImageNet-1k, in the order that every release of a classifier shares."""


@dataclass(frozen=True, kw_only=True)
class ReleasedClassifier:
    """A classifier of ImageNet's 1,000 classes and how to feed it.

    Attributes:
        module: Maps ``(batch, 3, image_size, image_size)`` to logits ``(batch, 1000)``.
        transform: Turns an RGB image into the module's input ``(3, image_size, image_size)``:
            resized, cropped and normalised as timm's ``validate.py`` does at test time.
        weights_digest: SHA-256 of the checkpoint file, else of the built state dict.
        remarks: As of ``bob.backbones.Backbone``.
    """

    key: str
    module: nn.Module
    transform: Callable[[Image], torch.Tensor]
    image_size: int
    weights_digest: str
    remarks: tuple[str, ...] = ()


def build_released(entry: BackboneEntry) -> ReleasedClassifier:
    """Build an entry with its classifier.

    Size, crop, interpolation, mean and deviation are those of the module's ``pretrained_cfg``,
    test-time values first; an entry's own ``mean``, ``std`` and argument ``img_size`` go before
    them.

    Raises:
        BobError: As ``build_backbone``; and of kind ``unavailable`` where there is no classifier of
            1,000 classes that anything was learnt by.
    """
    if entry.source.startswith("timm:"):
        module = _timm_classifier(entry)
    else:
        module = call_factory(entry, drop_path=0.0)
        _check_classes(entry, getattr(module, "num_classes", CLASSES), entry.source)
    remarks = timm_remarks(entry)
    if entry.weights is not None:
        remarks += load_checkpoint(module, entry, classifier=True)
    size = entry.arguments.get("img_size")
    given = {"mean": entry.mean, "std": entry.std, "img_size": size}
    config = resolve_data_config(given, model=module, use_test_size=True)
    size = int(config["input_size"][-1])
    _check_logits(entry, module, size)
    return ReleasedClassifier(
        key=entry.key,
        module=module,
        transform=create_transform(**config, is_training=False),
        image_size=size,
        weights_digest=weights_digest(entry, module),
        remarks=remarks,
    )


def _timm_classifier(entry: BackboneEntry) -> nn.Module:
    name = current_name(entry.source.removeprefix("timm:"))
    # A catalog entry of a feature extractor may say 0; the head is what is wanted here.
    arguments = {
        key: value
        for key, value in entry.arguments.items()
        if not (key == "num_classes" and not value)
    }
    if entry.weights is None:
        if not arguments.get("pretrained", True):
            raise _headless(entry, "its weights are random")
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        _check_classes(entry, getattr(config, "num_classes", CLASSES), name)
    headed = entry.model_copy(update={"arguments": arguments})
    return build_timm(headed, image_size=None, classes=CLASSES)


def _check_classes(entry: BackboneEntry, classes: int, what: str) -> None:
    if classes != CLASSES:
        raise _headless(entry, f"{what} has {f'{classes:,} outputs' if classes else 'none'}")


def _check_logits(entry: BackboneEntry, module: nn.Module, size: int) -> None:
    images = torch.zeros(2, 3, size, size)
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            logits: Any = module(images)
    except Exception as error:
        raise BobError(
            f"Backbone {entry.key!r} fails on images of {size} x {size} pixels: "
            f"{type(error).__name__}: {error}",
            kind="backbone",
        ) from error
    finally:
        module.train(was_training)
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (2, CLASSES):
        raise _headless(entry, f"two images came out as {shape}")


def _headless(entry: BackboneEntry, why: str) -> BobError:
    return BobError(
        f"Backbone {entry.key!r} has no classifier of ImageNet's {CLASSES:,} classes to evaluate: "
        f"{why}. Name a checkpoint that was released with one, such as timm:resnet50.a1_in1k, or "
        "leave eval_released out for it.",
        kind="unavailable",
    )
