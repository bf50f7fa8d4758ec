"""What processes of several devices do in tests, and backbones that behave otherwise in helpers."""

from __future__ import annotations

import os
import pickle
import signal
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from bob.distributed.group import Group
from bob.distributed.strategy import make_fabric, meeting, together
from tests.small_devices import Narrow

Halves = dict[str, Any]


def together_on(rank: int, size: int, store: Any, work: Any) -> Any:
    """Do something in a group of processes."""
    fabric = make_fabric("cpu", "32-true", rank=rank, size=size)
    with together(fabric, store, parts=1, seed=0) as group:
        return work(group)


def answer(connection: Connection, rank: int, size: int, port: int, work: Any) -> None:
    """What a helper does: the same, and tell what came out."""
    connection.send(pickle.dumps(together_on(rank, size, meeting(rank, size, port), work)))


def normalised_share(group: Group) -> Halves:
    """Two layers of batch norm on a share of a batch: what comes out, forwards and backwards."""
    torch.manual_seed(0)
    images = torch.randn(12, 3, 4, 5) * 3 + 100
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=None))
    share = group.share(images).clone().requires_grad_()
    loss = torch.zeros(())
    for _ in range(2):
        with group.batch_norm():
            out = module(share)
        loss = (out * torch.linspace(0, 1, out[0].numel()).view_as(out[0])).pow(2).sum()
    loss.backward()
    total = loss.detach().clone()
    group.sum_gradients(module.parameters(), total)
    return {
        "out": group.gathered(out.detach()),
        "images": group.gathered(share.grad),
        "loss": total,
        "gradients": [parameter.grad for parameter in module.parameters()],
        "buffers": list(module.buffers()),
    }


def reached_here_and_there(group: Group) -> list[torch.Tensor | None]:
    """Gradients of three parameters: one that all reach, one that the last does, one that none."""
    module = nn.ParameterList([nn.Parameter(torch.ones(2)) for _ in range(3)])
    loss = module[0].sum() * (group.rank + 1)
    if group.rank == group.size - 1:
        loss = loss + 5 * module[1].sum()
    loss.backward()
    group.sum_gradients(module.parameters())
    return [parameter.grad for parameter in module]


def is_helper() -> bool:
    """Whether this process helps another one."""
    return parent_process() is not None


class _Spoilt(Narrow):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and is_helper():
            self.spoil()
        return super().forward(images[:16])

    def spoil(self) -> None:
        raise NotImplementedError


class _Killed(_Spoilt):
    def spoil(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class _Raises(_Spoilt):
    def spoil(self) -> None:
        raise ValueError("the second device has no heart for it")


def killed() -> nn.Module:
    """Ends the helper's process when it trains."""
    return _Killed()


def raises() -> nn.Module:
    """Raises in the helper alone."""
    return _Raises()


def unloadable() -> nn.Module:
    """Cannot be built in the helper."""
    if is_helper():
        raise ValueError("no second copy")
    return Narrow()


class Wide(Narrow):
    """Takes batches of any size, without dropout."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rest(self.first(images)).mean(dim=(2, 3))


def wide() -> nn.Module:
    """Batch norm and nothing random."""
    return Wide()
