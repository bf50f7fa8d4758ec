"""Feature extraction through the suite, in a bare loop, and as timm times inference."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch import nn

from benchmarks.gpu.measure import Block
from bob.backbones import Backbone
from bob.datasets import Split
from bob.features.extract import BATCH, extract


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What every loop extracts features of.

    Attributes:
        backbone: Copied by each loop.
        fabric: Device and precision of the suite's loop.
        dtype: What the other loops compute in under autocast, or none.
        images: uint8 ``(n, 3, size, size)`` in main memory.
    """

    backbone: Backbone
    fabric: Fabric
    dtype: torch.dtype | None
    images: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.fabric.device

    @property
    def batch(self) -> int:
        """Images at a time: the suite's, or all where there are fewer."""
        return min(BATCH, len(self.images))

    def model(self) -> nn.Module:
        """Copy of the backbone on the device, as the suite runs it: in channels-last order."""
        model = copy.deepcopy(self.backbone.module).eval()
        return model.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Precision of the loops written by hand."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


def extraction_on(
    backbone: Backbone, fabric: Fabric, *, dtype: torch.dtype | None, images: int
) -> Extraction:
    """Random images in main memory."""
    size = backbone.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    return Extraction(backbone=backbone, fabric=fabric, dtype=dtype, images=pixels)


def suite(extraction: Extraction) -> Block:
    """The suite's pass over a split."""
    own = replace(extraction.backbone, module=copy.deepcopy(extraction.backbone.module))
    split = Split(extraction.images, torch.zeros(len(extraction.images), dtype=torch.int64))

    def block() -> None:
        batches = extract(own, split, fabric=extraction.fabric, what="synthetic images")
        if sum(map(len, batches)) != len(split):
            raise RuntimeError("features of some images are missing")

    return block


def bare(extraction: Extraction) -> Block:
    """What one would write by hand: bytes to the device, normalise there, forward, read back."""
    model, device = extraction.model(), extraction.device
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (extraction.backbone.mean, extraction.backbone.std)
    )

    def block() -> None:
        found = []
        with torch.inference_mode():
            for part in extraction.images.split(extraction.batch):
                part = part.pin_memory() if device.type == "cuda" else part
                pixels = part.to(device, non_blocking=True).float().div_(255)
                pixels = pixels.sub_(mean).div_(std)
                with extraction.autocast():
                    features = model(pixels.contiguous(memory_format=torch.channels_last))
                found.append(features.float().cpu())
        torch.cat(found).numpy()

    return block


def timm_loop(extraction: Extraction, *, channels_last: bool) -> Block:
    """The inference loop that timm's ``benchmark.py`` describes.

    One normalised batch that stays on the device, nothing read back.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model: nn.Module = extraction.model().to(memory_format=layout)
    size = extraction.backbone.image_size
    images = torch.randn(extraction.batch, 3, size, size, device=extraction.device)
    images = images.contiguous(memory_format=layout)
    steps = len(extraction.images) // extraction.batch

    def block() -> None:
        with torch.no_grad():
            for _ in range(steps):
                with extraction.autocast():
                    model(images)

    return block
