"""Batches: tensors straight from memory, or images through timm's augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from bob.backbones import Backbone
from bob.checkpoints.encoding import State
from bob.datasets import AnySplit, Split
from bob.distributed.group import Group, batches_of
from bob.protocols.finetune import FinetuneRecipe
from bob.training.image_loader import Batch, TrainLoader, pixels, share_damage

SCORING_BATCH = 256


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
        batch_size: Images of a whole batch.
        generator: Decides the order, anew at each pass.
        group: Processes that share each batch.
    """

    images: torch.Tensor
    targets: torch.Tensor
    batch_size: int
    generator: torch.Generator
    group: Group = field(default_factory=Group)
    _begin: torch.Tensor | None = field(default=None, init=False)
    _skipped: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)

    def __len__(self) -> int:
        return max(1, len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self._begin = self.generator.get_state()
        self._done, self._skipped = self._skipped, 0
        order = torch.randperm(len(self.targets), generator=self.generator)
        batches = order.to(self.images.device).split(self.batch_size)[: len(self)]
        for picks in batches[self._done :]:
            self._done += 1
            share = self.group.share(picks)
            yield self.images[share], self.targets[share]

    def state(self) -> State:
        """Where the pass stands."""
        return {"begin": self._begin, "done": self._done}

    def take_up(self, state: State) -> None:
        """Go on where another one stood; before the first pass."""
        self.generator.set_state(state["begin"])
        self._skipped = state["done"]
        if self._skipped == len(self):
            self._skipped = 0
            torch.randperm(len(self.targets), generator=self.generator)


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
    split: AnySplit,
    recipe: FinetuneRecipe,
    backbone: Backbone,
    *,
    device: torch.device,
    workers: int,
    seed: int,
    group: Group | None = None,
) -> TensorBatches | TrainLoader:
    """Batches of the train split under the recipe, reshuffled at each pass from ``seed``.

    Args:
        split: Images and targets.
        recipe: Batch size and augmentation.
        backbone: Decides size, mean and deviation.
        device: Where batches in memory are.
        workers: Loader processes.
        seed: Of the order.
        group: Processes that share each batch: this one has its part alone.

    Raises:
        BobError: They cannot share a batch equally.
    """
    group = group or Group()
    generator = torch.Generator().manual_seed(seed)
    size, mixed = min(recipe.batch_size, len(split)), bool(recipe.mixup or recipe.cutmix)
    if mixed:
        size -= size % 2  # images are mixed in pairs
    group.check(size, of="The recipe", pairs=mixed)
    if isinstance(split, Split) and not needs_pixels(recipe):
        return TensorBatches(
            normalised(split.images, backbone).to(device),
            split.targets.to(device),
            size,
            generator,
            group,
        )
    return TrainLoader(
        split,
        train_transform(recipe, backbone),
        batch_size=size,
        workers=workers,
        pinned=device.type == "cuda",
        generator=generator,
        group=group,
    )


@dataclass(frozen=True)
class ScoringBatches:
    """Normalised images of a split in its order, batch by batch, as often as asked for.

    Those of a split in memory are kept. Of several processes each has every so-manieth batch.
    """

    split: AnySplit
    backbone: Backbone
    workers: int
    group: Group = field(default_factory=Group)
    _kept: list[torch.Tensor] = field(default_factory=list, init=False)

    def __iter__(self) -> Iterator[torch.Tensor]:
        if isinstance(self.split, Split):
            if not self._kept:
                self._kept.append(normalised(self.split.images, self.backbone))
            batches = self._kept[0].split(SCORING_BATCH)
            yield from batches[self.group.rank :: self.group.size]
            return
        size, crop_pct = self.backbone.image_size, self.backbone.crop_pct
        for images in pixels(
            self.split,
            size=size,
            crop_pct=crop_pct,
            batches=batches_of(
                self.split, SCORING_BATCH, rank=self.group.rank, ranks=self.group.size
            ),
            workers=self.workers,
        ):
            yield normalised(images, self.backbone)
        share_damage(self.split, self.group)


def train_transform(recipe: FinetuneRecipe, backbone: Backbone) -> Any:
    """Timm's training transform for the recipe: PIL image → ``(3, size, size)`` float32."""
    from timm.data.transforms_factory import create_transform

    cropped = recipe.crop_scale < 1
    if not needs_pixels(recipe):
        return _Plain(backbone)
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


@dataclass(frozen=True)
class _Plain:
    """No augmentation: the image as it is scored."""

    backbone: Backbone

    def __call__(self, image: Any) -> torch.Tensor:
        from bob.datasets.images import fit

        size, crop_pct = self.backbone.image_size, self.backbone.crop_pct
        return normalised(fit(image, size, crop_pct)[None], self.backbone)[0]
