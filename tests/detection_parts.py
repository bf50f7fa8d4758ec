"""Backbones and recipes for the tests of detection."""

from __future__ import annotations

from typing import Any

from bob.backbones import Backbone, build_backbone
from bob.case import Case
from bob.catalog import Catalog, load_catalog, parse_backbone
from bob.protocols.detection import DetectionRecipe

FAMILIES = ("swin", "vit", "convnext", "resnet")


def smoke_recipe(cases: dict[str, Case], family: str = "resnet", **changes: Any) -> DetectionRecipe:
    recipe = cases[f"detection {family}_micro_glyphs"].recipe
    assert isinstance(recipe, DetectionRecipe)
    return recipe.model_copy(update=changes)


def micro(catalog: Catalog, family: str) -> Backbone:
    return build_backbone(catalog.backbone(f"{family}_micro_glyphs"), image_size=None)


def full(name: str, **arguments: Any) -> Backbone:
    text = "".join(f",{key}={value}" for key, value in arguments.items())
    entry = parse_backbone(f"timm:{name},pretrained=false{text}", load_catalog())
    return build_backbone(entry, image_size=None)
