"""Build a backbone from its entry, load its weights, and check that it gives features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.copying import copy_module
from bob.backbones.factory import call_factory, state_digest
from bob.backbones.released import weights_file
from bob.backbones.timm_source import build_timm, timm_remarks
from bob.backbones.trainable import unfreeze
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError
from bob.hashing import digest_of_file

_USUAL_SIZE = 224
USUAL_CROP = 0.875
Triple = tuple[float, float, float]
_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_FAR_SMALLER = 5
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A feature extractor and how to feed it.

    Attributes:
        module: Maps normalised images ``(batch, 3, image_size, image_size)`` to pooled features
            ``(batch, num_features)``.
        mean: Per-channel mean to normalise RGB in 0..1 with.
        std: Per-channel standard deviation.
        crop_pct: Share of an image's shorter side that it is scored on.
        weights_digest: SHA-256 of the checkpoint file, else of the built state dict.
        fingerprint: A few numbers that the module's features of a fixed input come down to. They
            move when its code does, which no digest of weights tells.
        training_remarks: What a reader of a score should know where the backbone is trained.
        remarks: What a reader should know of its weights: what was taken of a checkpoint and what
            was left out, another name that timm gave it.
    """

    key: str
    module: nn.Module
    num_features: int
    image_size: int
    mean: Triple
    std: Triple
    weights_digest: str
    fingerprint: tuple[float, ...]
    crop_pct: float = USUAL_CROP
    training_remarks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def copied(self) -> Backbone:
        """The same backbone with a module of its own, to be trained apart."""
        return replace(self, module=copy_module(self.module, what=f"Backbone {self.key!r}"))


def build_backbone(
    entry: BackboneEntry, *, image_size: int | None, drop_path: float = 0.0
) -> Backbone:
    """Build the backbone of an entry.

    Args:
        entry: Catalog entry or one parsed from the command line.
        image_size: Height and width to build for, or none for its own. A backbone that cannot take
            it keeps its own.
        drop_path: Stochastic depth, for sources that take ``drop_path_rate``.

    Raises:
        BobError: The source cannot be imported or built, the weights do not match, or the module
            gives no pooled features. ``kind`` is ``unavailable`` when weights cannot be reached.
    """
    module = make_module(entry, image_size=image_size, drop_path=drop_path)
    remarks = timm_remarks(entry)
    if entry.weights is not None:
        remarks += load_checkpoint(module, entry)
    config = data_config(module)
    size, features = _probe(entry, module, image_size, config.get("input_size"))
    if image_size and size != image_size:
        remarks += (
            f"it takes no images of {image_size} pixels, so that it is fed {size}, its own size",
        )
    channels = int(features.shape[1])
    return Backbone(
        key=entry.key,
        module=module,
        num_features=channels,
        image_size=size,
        mean=entry.mean or config.get("mean") or _IMAGENET_MEAN,
        std=entry.std or config.get("std") or _IMAGENET_STD,
        weights_digest=weights_digest(entry, module),
        fingerprint=_fingerprint(features),
        crop_pct=config.get("crop_pct") or USUAL_CROP,
        training_remarks=unfreeze(entry, module),
        remarks=remarks + _small_images(entry, module, size),
    )


def make_module(entry: BackboneEntry, *, image_size: int | None, drop_path: float) -> nn.Module:
    """The entry's module without a classifier, before any checkpoint is loaded.

    Raises:
        BobError: As of ``build_backbone``.
    """
    if entry.source.startswith("timm:"):
        module = build_timm(entry, image_size=image_size, drop_path=drop_path)
    else:
        module = call_factory(entry, drop_path=drop_path)
    reset: Any = getattr(module, "reset_classifier", None)
    if callable(reset) and getattr(module, "num_classes", None):
        reset(0)
    return module


def data_config(module: nn.Module) -> dict[str, Any]:
    """Normalisation and native size that a timm module carries; empty for other modules."""
    config = getattr(module, "pretrained_cfg", None) or {}
    wanted = ("mean", "std", "input_size", "crop_pct")
    settings = {key: config[key] for key in wanted if config.get(key)}
    built_for = getattr(getattr(module, "patch_embed", None), "img_size", None)
    if built_for is not None:
        settings["input_size"] = (3, *built_for)
    return settings


def _small_images(entry: BackboneEntry, module: nn.Module, size: int) -> tuple[str, ...]:
    """A word on images that are far smaller than those that the weights were made on."""
    config = getattr(module, "pretrained_cfg", None) or {}
    made_for = entry.image_size or (config.get("input_size") or (0,))[-1]
    if not entry.fixed or not made_for or size * _FAR_SMALLER > made_for:
        return ()
    return (
        f"images are fed at {size} pixels to weights that were made at {made_for}: such a score "
        "says little of the backbone. --image-size=own feeds them at its own size",
    )


def _probe(
    entry: BackboneEntry,
    module: nn.Module,
    image_size: int | None,
    native: tuple[int, int, int] | None,
) -> tuple[int, torch.Tensor]:
    """Run two fixed images of noise through; returns the size that works and their features."""
    own = native[-1] if native else None
    image_size = image_size or own or _USUAL_SIZE
    sizes = [image_size]
    if own and own != image_size:
        sizes.append(own)
    problem: Exception | None = None
    was_training = module.training
    module.eval()
    try:
        for size in sizes:
            try:
                with torch.no_grad():  # what a lazy module makes now is trained later
                    features = module(_noise(2, 3, size, size))
            except Exception as error:
                problem = problem or error
                continue
            return size, _checked(entry, features)
    finally:
        module.train(was_training)
    raise BobError(
        f"Backbone {entry.key!r} fails on images of {image_size} x {image_size} pixels: "
        f"{type(problem).__name__}: {problem}",
        kind="backbone",
    ) from problem


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _fingerprint(features: torch.Tensor) -> tuple[float, ...]:
    flat = features.detach().float().cpu().flatten()
    return tuple((_noise(16, len(flat)) @ flat).tolist())


def _checked(entry: BackboneEntry, features: Any) -> torch.Tensor:
    rows = isinstance(features, torch.Tensor) and features.ndim == 2 and len(features) == 2
    if rows and features.shape[1] > 0 and features.is_floating_point():
        if torch.isfinite(features).all():
            return features
        description = "values that are not finite"
    elif isinstance(features, torch.Tensor):
        kind = str(features.dtype).removeprefix("torch.")
        description = f"a tensor of shape {tuple(features.shape)} of {kind}"
    else:
        description = type(features).__name__
    raise BobError(
        f"Backbone {entry.key!r} gives no features: two images came out as {description}; expected "
        "a finite tensor of shape (2, channels). Pool inside the module; timm has num_classes=0.",
        kind="backbone",
    )


def weights_digest(entry: BackboneEntry, module: nn.Module) -> str:
    """Hex SHA-256 of the entry's checkpoint file, else of the module's state."""
    if entry.weights is not None:
        return entry.weights.sha256 or digest_of_file(weights_file(entry))
    return state_digest(module)
