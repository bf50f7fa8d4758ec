"""Backbones that do not fare alike on one device and on several."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bob.datasets import MultilabelData
from tests.device_parts import Wide, is_helper
from tests.stopped_cases import several_labels

ROOM = "BOB_TEST_ROOM"
"""Variable: images that fit in training."""


class _Direct(nn.BatchNorm2d):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert self.num_batches_tracked is not None
        if self.training:
            self.num_batches_tracked += 1
        return torch.batch_norm(
            images, self.weight, self.bias, self.running_mean, self.running_var, self.training,
            0.1, self.eps, False,
        )  # fmt: skip


def direct() -> nn.Module:
    """Calls torch's own batch norm."""
    net = Wide()
    net.first[1], net.rest[1] = _Direct(8), _Direct(16)
    return net


class _Kept(Wide):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(images)
        self.rest[1].eval()
        seen: Any = checkpoint(self.first, images, use_reentrant=False)
        seen = checkpoint(self.rest, seen, use_reentrant=False)
        return seen.mean(dim=(2, 3))


def computed_again() -> nn.Module:
    """Keeps few activations, and computes them once more backwards; one norm does not learn."""
    return _Kept()


class _Own(Wide):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.middle.lerp_(images.mean() * 10, 0.5)
        return super().forward(images) + self.middle


def own_statistics() -> nn.Module:
    """Has statistics of batches that are no batch norm."""
    return _Own()


class _Scripted(Wide):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.jit.script(self.first)


def scripted() -> nn.Module:
    """A part is scripted, batch norm in it."""
    return _Scripted()


class _LeavesOut(Wide):
    def __init__(self) -> None:
        super().__init__()
        self.either = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.first(images)
        if self.training:
            seen = self.either[random.random() < 0.5](seen)
        return self.rest(seen).mean(dim=(2, 3))


def leaves_out() -> nn.Module:
    """Takes one of two layers at random."""
    return _LeavesOut()


class _Unusual(Wide):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(16), torch.arange(16.0)))
        self.register_buffer("spread", torch.arange(3).expand(16, 3))
        self.register_buffer("none", torch.zeros(0))
        self.register_buffer("mask", torch.ones(2, dtype=torch.bool))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * self.turns.abs()


def unusual() -> nn.Module:
    """Has buffers of complex numbers, of shared memory, and of none."""
    return _Unusual()


def unseeded() -> nn.Module:
    """Other weights in each process."""
    net = Wide()
    with torch.no_grad():
        net.first[0].bias.fill_(1.0 if is_helper() else 0.0)
    return net


class _Room(Wide):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > int(os.environ.get(ROOM, "1000")):
            raise torch.OutOfMemoryError("no room")
        return super().forward(images)


def room() -> nn.Module:
    """Fits a device whose room changes."""
    return _Room()


class _Rich(Wide):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).repeat(1, 64)


def rich() -> nn.Module:
    """Has 1024 features."""
    return _Rich()


def prints() -> nn.Module:
    """Prints in every process."""
    print("a word from", "a helper" if is_helper() else "the first")
    return Wide()


def ends() -> nn.Module:
    """Ends the helper's process."""
    if is_helper():
        sys.exit(3)
    return Wide()


def ends_at_once() -> nn.Module:
    """Ends the helper's process without a word."""
    if is_helper():
        os._exit(4)
    return Wide()


def some_labels(path: str) -> MultilabelData:
    """Photographs of which half the images lack a label."""
    data = several_labels(path)
    data.train.targets[::2, 0] = torch.nan
    data.train.targets[::4, 1] = torch.nan
    return data
