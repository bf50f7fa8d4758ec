"""Factories as users bring them: fresh, cached, half-cached, frozen, detached."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn


class Net(nn.Module):
    """A small network: two convolutions, pooled."""

    def __init__(self, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = trunk or nn.Conv2d(3, 16, 4, stride=4)
        self.neck = nn.Conv2d(16, 24, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.neck(self.trunk(images).relu()).relu().mean(dim=(2, 3))


class Detached(Net):
    """No gradient leaves it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().forward(images)


class HalfDetached(Net):
    """No gradient reaches its trunk."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.neck(self.trunk(images).relu().detach()).relu().mean(dim=(2, 3))


def pretrained_into(net: nn.Module) -> nn.Module:
    """The same weights at each call, whatever the seed."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    return net


def fresh() -> nn.Module:
    return Net()


@cache
def cached() -> nn.Module:
    return Net()


@cache
def cached_pretrained() -> nn.Module:
    return pretrained_into(Net())


def fresh_pretrained() -> nn.Module:
    return pretrained_into(Net())


with torch.random.fork_rng():
    _KEPT = pretrained_into(Net())
    _TRUNK = pretrained_into(nn.Conv2d(3, 16, 4, stride=4))
_LATER: list[nn.Module] = []


def kept() -> nn.Module:
    """A module that was built when this file was imported."""
    return _KEPT


def kept_random() -> nn.Module:
    """A random module, built at the first call."""
    if not _LATER:
        _LATER.append(Net())
    return _LATER[0]


def kept_trunk() -> nn.Module:
    """A new module around a trunk that is shared by all of them."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net(_TRUNK)


def frozen() -> nn.Module:
    return Net().requires_grad_(False)


def detached() -> nn.Module:
    return Detached()


def half_detached() -> nn.Module:
    return HalfDetached()


def uncopyable() -> nn.Module:
    net = Net()
    net.held = net.neck.weight * 2  # type: ignore[assignment]
    return net
