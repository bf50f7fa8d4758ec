"""Factories as users bring them: fresh, cached, half-cached, frozen, detached."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

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


def patched() -> nn.Module:
    """A forward that is a closure over the module: a copy of it would run the original."""
    net = Net()
    net.forward = lambda images: net.neck(net.trunk(images).relu()).relu().mean(dim=(2, 3))  # type: ignore[method-assign]
    return net


with torch.random.fork_rng():
    _PATCHED = pretrained_into(patched())


def kept_patched() -> nn.Module:
    return _PATCHED


@cache
def _state() -> dict[str, torch.Tensor]:
    return Net().state_dict()


def inner_cache() -> nn.Module:
    """New modules of one set of random weights."""
    net = Net()
    net.load_state_dict(_state())
    return net


class Listed(nn.Module):
    """Layers in a plain list: no parameter is registered."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(3, 8, 4, stride=4)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers[0](images).relu().mean(dim=(2, 3))


def listed() -> nn.Module:
    return Listed()


class Refrozen(Net):
    """Freezes itself whenever it is told to train."""

    def train(self, mode: bool = True) -> Refrozen:
        super().train(mode)
        self.requires_grad_(False)
        return self


class HalfRefrozen(Net):
    """Freezes its trunk whenever it is told to train."""

    def train(self, mode: bool = True) -> HalfRefrozen:
        super().train(mode)
        self.trunk.requires_grad_(False)
        return self


def refrozen() -> nn.Module:
    return Refrozen().eval()


def half_refrozen() -> nn.Module:
    return HalfRefrozen().train()


def scripted() -> nn.Module:
    return torch.jit.script(Net())


class Lazy(nn.Module):
    """Weights that are made at the first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(16, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).relu().mean(dim=(2, 3))


def lazy() -> nn.Module:
    return Lazy()


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 4, stride=4)
        self.linear = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(16, 16)), {nn.Linear}, dtype=torch.qint8
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(images).relu().mean(dim=(2, 3)))


def quantised() -> nn.Module:
    return Quantised()


class OneRow(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).mean(dim=0, keepdim=True)


def one_row() -> nn.Module:
    return OneRow()


class Tokens(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.neck(self.trunk(images)).flatten(2).transpose(1, 2).flatten(0, 1)


def tokens() -> nn.Module:
    return Tokens()


class Complex(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).to(torch.complex64)


def complex_features() -> nn.Module:
    return Complex()


def weight_normed() -> nn.Module:
    net = Net()
    nn.utils.weight_norm(net.neck)
    return net


class _OfOneSize(nn.Module):
    """Refuses images of another size than its own."""

    pretrained_cfg: ClassVar[dict[str, Any]] = {"input_size": (3, 32, 32)}

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.layer(images.flatten(1))
        return rows


def of_one_size() -> nn.Module:
    """A backbone whose first layer fits images of 32 x 32 pixels alone."""
    return _OfOneSize()
