"""A backbone without its weights: what there is to know of it before anything is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bob.backbones.build import data_config, make_module
from bob.catalog.schema import BackboneEntry


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a module says of itself.

    Attributes:
        module: On torch's meta device: shapes without values.
        parameters: Of the feature extractor.
        num_features: Channels of the pooled features of an image of ``image_size``.
        strides: Pixels per cell of its feature maps, ascending; empty for none.
        image_size: Height and width its weights are made for.
    """

    module: nn.Module
    parameters: int
    num_features: int
    strides: tuple[int, ...]
    image_size: int


def build_architecture(entry: BackboneEntry) -> Architecture:
    """Build an entry's module in a moment and without memory, weights or network.

    Raises:
        BobError: The source cannot be imported or built.
    """
    module: Any = bare_module(entry).eval()
    with torch.device("meta"), torch.no_grad():
        native = data_config(module).get("input_size")
        size = native[-1] if native else entry.image_size or 224
        features = module(torch.empty(1, 3, size, size))
        info = getattr(module, "feature_info", None) or ()
    strides = {int(stage["reduction"]) for stage in getattr(info, "info", info)}
    return Architecture(
        module=module,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        num_features=int(features.shape[1]),
        strides=tuple(sorted(strides)),
        image_size=size,
    )


def bare_module(entry: BackboneEntry) -> nn.Module:
    """An entry's module on the meta device, of the size its weights are made for.

    Raises:
        BobError: The source cannot be imported or built.
    """
    arguments = dict(entry.arguments)
    if entry.source.startswith("timm:"):
        arguments["pretrained"] = False
    bare = entry.model_copy(update={"weights": None, "arguments": arguments})
    with torch.device("meta"), torch.no_grad():
        return make_module(bare, image_size=None, drop_path=0.0)
