"""Batches: tensors straight from memory, or images through timm's augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from bob.backbones import Backbone
from bob.datasets import Split
from bob.tasks.recipes import FinetuneRecipe

Batch = tuple[torch.Tensor, torch.Tensor]


def normalised(images: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """Resize (bicubic, antialiased) and normalise images as the backbone expects.

    Args:
        images: uint8, ``(n, 3, height, width)``.
        backbone: Decides size, mean and deviation.

    Returns:
        float32, ``(n, 3, backbone.image_size, backbone.image_size)``.
    """
    pixels = images.to(torch.float32).div_(255.0)
    size = backbone.image_size
    if pixels.shape[-2:] != (size, size):
        pixels = functional.interpolate(
            pixels, size=(size, size), mode="bicubic", antialias=True, align_corners=False
        ).clamp_(0, 1)
    mean = torch.tensor(backbone.mean).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std).view(1, 3, 1, 1)
    return pixels.sub_(mean).div_(std)


@dataclass
class TensorBatches:
    """Shuffled batches of a split held in memory; the last incomplete batch is left out.

    Attributes:
        images: ``(n, 3, size, size)`` float32 on the training device.
        targets: ``(n,)`` int64 on the training device.
    """

    images: torch.Tensor
    targets: torch.Tensor
    batch_size: int
    generator: torch.Generator

    def __len__(self) -> int:
        return max(1, len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.targets), generator=self.generator)
        for picks in order.to(self.images.device).split(self.batch_size)[: len(self)]:
            yield self.images[picks], self.targets[picks]


class _AugmentedSplit(Dataset[Batch]):
    def __init__(self, split: Split, transform: Any) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Batch:
        from torchvision.transforms.functional import to_pil_image

        image: torch.Tensor = self.transform(to_pil_image(self.split.images[index]))
        return image, self.split.targets[index]


def needs_pixels(recipe: FinetuneRecipe) -> bool:
    """Whether the recipe augments single images, which memory-resident tensors bypass."""
    return bool(
        recipe.rand_augment
        or recipe.color_jitter
        or recipe.hflip
        or recipe.random_erase
        or recipe.crop_scale < 1
    )


def train_batches(
    split: Split,
    recipe: FinetuneRecipe,
    backbone: Backbone,
    *,
    device: torch.device,
    workers: int,
    seed: int,
) -> TensorBatches | DataLoader[Batch]:
    """Batches of the train split under the recipe, reshuffled at each pass from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    if not needs_pixels(recipe):
        return TensorBatches(
            normalised(split.images, backbone).to(device),
            split.targets.to(device),
            min(recipe.batch_size, len(split)),
            generator,
        )
    return DataLoader(
        _AugmentedSplit(split, train_transform(recipe, backbone)),
        batch_size=min(recipe.batch_size, len(split)),
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        generator=generator,
    )


def train_transform(recipe: FinetuneRecipe, backbone: Backbone) -> Any:
    """Timm's training transform for the recipe: PIL image → ``(3, size, size)`` float32."""
    from timm.data.transforms_factory import create_transform

    cropped = recipe.crop_scale < 1
    return create_transform(
        (3, backbone.image_size, backbone.image_size),
        is_training=True,
        scale=(recipe.crop_scale, 1.0) if cropped else (1.0, 1.0),
        ratio=None if cropped else (1.0, 1.0),
        hflip=recipe.hflip,
        color_jitter=recipe.color_jitter or None,
        auto_augment=recipe.rand_augment,
        interpolation="bicubic",
        mean=backbone.mean,
        std=backbone.std,
        re_prob=recipe.random_erase,
        re_mode="pixel",
        use_prefetcher=False,
    )
