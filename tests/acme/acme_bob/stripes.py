"""A dataset of acme's own: stripes of two directions under noise."""

from __future__ import annotations

import hashlib

import torch

from bob.datasets import ClassificationData, Split


def load(*, train: int = 60, test: int = 40) -> ClassificationData:
    """Draw the same stripes every time."""
    generator = torch.Generator().manual_seed(0)
    count = train + test
    targets = torch.arange(count) % 2
    rows = torch.arange(32)
    waves = torch.where((rows // 4 % 2).bool(), 200, 50).float()
    images = torch.empty(count, 3, 32, 32)
    for index, target in enumerate(targets.tolist()):
        images[index] = waves[:, None] if target else waves[None, :]
    noise = torch.randint(-40, 41, images.shape, generator=generator)
    pixels = (images + noise).clamp(0, 255).to(torch.uint8)
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    return ClassificationData(
        sha256=digest,
        class_names=("across", "along"),
        train=Split(pixels[:train], targets[:train]),
        test=Split(pixels[train:], targets[train:]),
    )
