"""What is run and at which sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of every part.

    Attributes:
        device: Where everything runs.
        precision: ``bf16-mixed`` or ``32-true``.
        models: Names of timm's and the batch each is trained with.
        image_size: Height and width.
        steps: Updates in a timed block of training.
        images: Images in a timed block of extraction.
        rounds: Timed blocks of each loop, in turns.
        channels_last: Whether timm's loop runs in that layout.
        matmul: Side of the square matrices whose product measures operations a second.
        copied: Bytes copied to measure bytes a second.
        smoke_backbones: Catalog keys.
        smoke_limit: Most smoke cases, 0 for all.
        match: What the name of a smoke case must contain.
        detectors: Names of timm's.
        detection_size: Height and width of detection images.
        detection_batch: Images a step.
        detection_steps: Timed steps.
        detection_changes: What differs from the recipe of scale ``full``.
    """

    device: torch.device
    precision: str
    models: Mapping[str, int]
    channels_last: bool
    match: str
    image_size: int = 224
    steps: int = 10
    images: int = 2048
    rounds: int = 3
    matmul: int = 8192
    copied: int = 2**30
    smoke_backbones: tuple[str, ...] = (
        "vit_micro_glyphs",
        "resnet_micro_glyphs",
        "swin_micro_random",
        "convnext_micro_random",
    )
    smoke_limit: int = 0
    detectors: tuple[str, ...] = ("resnet50", "convnext_tiny")
    detection_size: tuple[int, int] = (800, 1333)
    detection_batch: int = 4
    detection_steps: int = 8
    detection_changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def autocast(self) -> torch.dtype | None:
        """The type that autocast computes in, or none."""
        return torch.bfloat16 if self.precision == "bf16-mixed" else None


FULL_MODELS = {
    "resnet50": 128,
    "convnext_tiny": 128,
    "convnext_base": 64,
    "swin_tiny_patch4_window7_224": 128,
    "vit_small_patch16_224": 128,
    "vit_base_patch16_224": 64,
}

TINY_MODELS = {"test_resnet": 4, "test_vit": 4}

TINY: dict[str, Any] = {
    "image_size": 32,
    "steps": 2,
    "images": 8,
    "rounds": 2,
    "matmul": 256,
    "copied": 2**22,
    "smoke_backbones": ("vit_micro_glyphs",),
    "smoke_limit": 2,
    "detectors": ("test_resnet",),
    "detection_size": (64, 64),
    "detection_batch": 2,
    "detection_steps": 2,
    "detection_changes": {
        "channels": 16,
        "head_convs": 1,
        "head_fcs": (32,),
        "mask_convs": 1,
        "rpn_batch": 32,
        "rpn_candidates": (50, 50),
        "rpn_proposals": (20, 20),
        "roi_batch": 16,
    },
}
"""A dry run of a few seconds: every path, no figure worth keeping."""
