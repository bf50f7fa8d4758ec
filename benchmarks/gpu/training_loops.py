"""Fine-tuning through the suite, in a bare loop, and as timm times it."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2
from torch import nn

from benchmarks.gpu.measure import Block
from bob.backbones import Backbone
from bob.protocols.finetune import FinetuneRecipe
from bob.training.classifier import Classifier
from bob.training.data import TensorBatches
from bob.training.loop import Loop

CLASSES = 1000
_RATE, _DECAY, _SMOOTHING = 1e-4, 0.05, 0.1


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every loop trains, on what.

    Attributes:
        backbone: Copied by each loop.
        fabric: Device and precision of the suite's loop.
        dtype: What the other loops compute in under autocast, or none.
        images: ``(steps * batch, 3, size, size)`` float32 on the device.
        targets: ``(steps * batch,)`` on the device.
        batch: Images an update.
    """

    backbone: Backbone
    fabric: Fabric
    dtype: torch.dtype | None
    images: torch.Tensor
    targets: torch.Tensor
    batch: int

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.fabric.device

    def model(self) -> nn.Module:
        """Copy of the backbone under a linear head, on the device."""
        head = nn.Linear(self.backbone.num_features, CLASSES)
        model = nn.Sequential(copy.deepcopy(self.backbone.module), head)
        return model.to(self.device).train()

    def autocast(self) -> torch.autocast:
        """Precision of the loops written by hand."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


def training_on(
    backbone: Backbone, fabric: Fabric, *, dtype: torch.dtype | None, batch: int, steps: int
) -> Training:
    """Random images and targets for some steps."""
    device, size = fabric.device, backbone.image_size
    generator = torch.Generator(device).manual_seed(0)
    return Training(
        backbone=backbone,
        fabric=fabric,
        dtype=dtype,
        images=torch.randn(steps * batch, 3, size, size, device=device, generator=generator),
        targets=torch.randint(CLASSES, (steps * batch,), device=device, generator=generator),
        batch=batch,
    )


def suite(training: Training) -> Block:
    """An epoch of the suite's loop: shuffled batches, schedule, progress and all.

    The block raises ``torch.OutOfMemoryError`` where the suite has to split its batches, because
    the others do not.
    """
    own = replace(training.backbone, module=copy.deepcopy(training.backbone.module))
    recipe = FinetuneRecipe(
        epochs=1000, batch_size=training.batch, image_size=own.image_size, lr=_RATE,
        weight_decay=_DECAY, layer_decay=1.0, warmup_epochs=0, drop_path=0.0,
        label_smoothing=_SMOOTHING, mixup=0.0, cutmix=0.0, rand_augment=None, color_jitter=0.0,
        crop_scale=1.0, hflip=0.0, random_erase=0.0,
    )  # fmt: skip
    loop = Loop(
        model=Classifier(own, CLASSES),
        recipe=recipe,
        fabric=training.fabric,
        batches=TensorBatches(
            training.images, training.targets, training.batch, torch.Generator().manual_seed(0)
        ),
        classes=CLASSES,
        emit=lambda progress: None,
    )
    epochs = itertools.count()

    def block() -> None:
        loop.epoch(next(epochs))
        if loop.micro_batches > 1:
            raise torch.OutOfMemoryError(f"a batch of {training.batch} had to be split")

    return block


def bare(training: Training) -> Block:
    """What one would write by hand: forward, loss, backward, step over the same images."""
    model = training.model()
    exempt = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    groups = [{"params": decayed}, {"params": exempt, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=_RATE, weight_decay=_DECAY, fused=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
    size = training.batch
    batches = list(zip(training.images.split(size), training.targets.split(size), strict=True))

    def block() -> None:
        total = torch.zeros((), device=training.device)
        for images, targets in batches:
            with training.autocast():
                logits = model(images)
            loss = criterion(logits.float(), targets)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            total += loss.detach()
        float(total)

    return block


def timm_loop(training: Training, *, channels_last: bool) -> Block:
    """The training loop that timm's ``benchmark.py`` describes.

    One batch that stays on the device, loss inside of autocast, an optimiser of timm's factory,
    nothing read back.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model: nn.Module = training.model().to(memory_format=layout)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=_RATE, weight_decay=_DECAY)
    criterion = nn.CrossEntropyLoss()
    size = training.batch
    images = training.images[:size].contiguous(memory_format=layout)
    targets = training.targets[:size]
    steps = len(training.images) // size

    def block() -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            with training.autocast():
                loss = criterion(model(images), targets)
            loss.backward()
            optimiser.step()

    return block
