"""Fabric on several devices of one machine, whose processes are started by ``Crew``."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import distributed, nn

from bob.distributed.group import Group
from bob.errors import BobError

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others in one collective; the first one alone makes the pictures
and reads a first batch, which takes minutes on slow disks."""
_LOGGERS = ("lightning_fabric", "lightning_utilities", "lightning.fabric")
_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")


class Ranks(ClusterEnvironment):
    """Processes of one machine that somebody else has started.

    Args:
        rank: Number of this one, from 0.
        size: How many there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    @property
    def creates_processes_externally(self) -> bool:
        """Fabric is not to start any."""
        return True

    @property
    def main_address(self) -> str:
        """Where the first process listens."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """None: they meet in ``meeting``."""
        return 0

    @staticmethod
    def detect() -> bool:
        """It is chosen, never found."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self._size

    def set_world_size(self, size: int) -> None:
        """It is fixed."""

    def global_rank(self) -> int:
        """Number of this process."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """It is fixed."""

    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return self._rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


class Shares(DDPStrategy):
    """Data parallel training whose gradients are summed up by ``Group``.

    A batch that does not fit is split in the middle of a step, and a part of a backbone may get no
    gradient; torch's wrapper takes neither.
    """

    def setup_module(self, module: nn.Module) -> Any:
        """The module as it is."""
        return module


def make_fabric(accelerator: str, precision: str, *, rank: int = 0, size: int = 1) -> Fabric:
    """Fabric on one device; ``auto`` precision is bfloat16 mixed on CUDA and float32 elsewhere.

    Args:
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` or one of Fabric's.
        rank: Which of several devices.
        size: How many devices train together; they meet in ``together``.

    Raises:
        BobError: The accelerator or so many devices are not there, or the precision is unknown.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise BobError("No CUDA device is visible to torch; choose --accelerator cpu or auto.")
    on_cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    if precision == "auto":
        precision = "bf16-mixed" if on_cuda else "32-true"
    options: dict[str, Any] = {"accelerator": accelerator, "devices": 1, "precision": precision}
    if size > 1:
        _check_devices(size, accelerator, on_cuda=on_cuda)
        shares = Shares(cluster_environment=Ranks(rank, size), timeout=_PATIENCE)
        options |= {"devices": size, "strategy": shares}
    else:
        # Left alone, Fabric looks for Slurm and torchrun, and takes their tasks for its own.
        options["plugins"] = [Ranks(0, 1)]
    try:
        return Fabric(**options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BobError(
            f"Cannot use accelerator {accelerator!r} with precision {precision!r}: {error}"
        ) from error


def device_fabric(accelerator: str, precision: str, *, rank: int, size: int) -> Fabric:
    """Fabric on one of several devices that do not train together.

    Raises:
        BobError: As ``make_fabric``.
    """
    fabric = make_fabric(accelerator, precision)
    if size == 1 or fabric.device.type == "cpu":
        return fabric
    _check_devices(size, accelerator, on_cuda=fabric.device.type == "cuda")
    chosen: Any = {
        "devices": [rank],
        "precision": fabric.strategy.precision.precision,
        "plugins": [Ranks(0, 1)],
    }
    return Fabric(accelerator="cuda", **chosen)


def _check_devices(size: int, accelerator: str, *, on_cuda: bool) -> None:
    if on_cuda and size > (there := torch.cuda.device_count()):
        raise BobError(
            f"--devices={size}: torch sees {there} CUDA {'device' if there == 1 else 'devices'}. "
            f"Take --devices={there}, or make more of them visible (CUDA_VISIBLE_DEVICES).",
            kind="devices",
        )
    if not on_cuda and accelerator != "cpu" and torch.backends.mps.is_available():
        raise BobError(
            f"--devices={size}: MPS has one device. Leave the option out.", kind="devices"
        )


def meeting(rank: int, size: int, port: int = 0) -> distributed.TCPStore:
    """Where processes find each other; the first one listens, at a free port of this machine.

    Args:
        rank: Number of this process.
        size: How many come.
        port: Where the first one listens; not its own concern.
    """
    if rank:
        return distributed.TCPStore("127.0.0.1", port, size, False, timeout=_PATIENCE)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(size)
        return distributed.TCPStore(
            "127.0.0.1",
            listening.getsockname()[1],
            size,
            True,
            timeout=_PATIENCE,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )


@contextmanager
def together(
    fabric: Fabric, store: distributed.TCPStore, *, parts: int, seed: int
) -> Iterator[Group]:
    """The group of a fabric's processes, which all come here.

    Args:
        fabric: Of ``make_fabric`` with several devices.
        store: Of ``meeting``.
        parts: See ``Group``.
        seed: See there.
    """
    environment: Any = fabric.strategy.cluster_environment
    rank, size = environment.global_rank(), environment.world_size()
    on_cuda = fabric.device.type == "cuda"
    try:
        with _as_before():
            # Fabric would listen at a port that is looked for first, and may be taken by then
            distributed.init_process_group(
                "nccl" if on_cuda else "gloo",
                store=store,
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
                device_id=fabric.device if on_cuda else None,
            )
            fabric.launch()
        yield Group.joined(rank, size, parts=parts, seed=seed)
    finally:
        with suppress(Exception):
            distributed.destroy_process_group()


@contextmanager
def _as_before() -> Iterator[None]:
    """Put back what Fabric and torch set for the whole process when they find the others."""
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    hook, logs = sys.excepthook, [logging.getLogger(name) for name in _LOGGERS]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        sys.excepthook = hook
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def threads_among(size: int) -> Iterator[None]:
    """Have several processes share the cores that one had."""
    before = torch.get_num_threads()
    if size > 1:
        torch.set_num_threads(max(1, before // size))
    try:
        yield
    finally:
        torch.set_num_threads(before)
