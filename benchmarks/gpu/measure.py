"""Clocks, memory, and batches that have to fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from benchmarks.gpu.parts import release
from bob.training.environment import peak_memory_mb, reset_peak

Block = Callable[[], None]
_Found = TypeVar("_Found")


def settle(device: torch.device) -> None:
    """Wait for what the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Block, device: torch.device) -> float:
    """Wall seconds until the device is done with some work."""
    settle(device)
    start = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - start


def device_seconds(work: Block, device: torch.device, *, repeats: int) -> float:
    """The least seconds that the device itself spends on some work, after two rounds unclocked."""
    for _ in range(2):
        work()
    if device.type != "cuda":
        return min(seconds_of(work, device) for _ in range(repeats))
    marks = []
    settle(device)
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        marks.append((start, end))
    settle(device)
    return float(min(start.elapsed_time(end) for start, end in marks)) / 1e3


def allocated_mb(device: torch.device) -> float:
    """Memory in use on the GPU; 0 elsewhere."""
    return float(torch.cuda.memory_allocated(device)) / 2**20 if device.type == "cuda" else 0.0


@dataclass
class Contestant:
    """A loop that is timed against others in turns.

    Attributes:
        run: A block of work.
        own_mb: What it keeps on the GPU between blocks: weights and optimiser state.
        seconds: Of each timed block.
        peak_mb: Most memory of a block, what others keep not counted; on a CPU the process's.
    """

    run: Block
    own_mb: float
    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0


def contestant(make: Callable[[], Block], device: torch.device) -> Contestant:
    """Build a loop and run its first block, which is not timed."""
    before = allocated_mb(device)
    run = make()
    run()
    settle(device)
    return Contestant(run, allocated_mb(device) - before)


def take_turns(
    contestants: Mapping[str, Contestant],
    device: torch.device,
    *,
    rounds: int,
    late: Callable[[], bool] = lambda: False,
) -> None:
    """Time a block of each, round after round, another one first each time.

    At least one round is run; no further one starts when it is late.
    """
    names = list(contestants)
    for turn in range(rounds):
        if turn and late():
            return
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            contestant = contestants[name]
            reset_peak(device)
            start = allocated_mb(device)
            contestant.seconds.append(seconds_of(contestant.run, device))
            used = peak_memory_mb(device) - start + contestant.own_mb
            contestant.peak_mb = max(contestant.peak_mb, used)


def with_back_off(batch: int, attempt: Callable[[int], _Found]) -> _Found:
    """What an attempt gives at a batch, halved as often as memory runs out.

    Raises:
        torch.OutOfMemoryError: A single image does not fit.
    """
    while True:
        try:
            return attempt(batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        # outside of the handler: a live traceback would keep what has to go
        batch //= 2
        release()
        print(f"out of memory; batch {batch} is tried", flush=True)


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a product of square matrices, two a multiply-add."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    seconds = device_seconds(lambda: _drop(torch.mm(left, right, out=out)), device, repeats=20)
    return 2 * side**3 / seconds


def copy_rate(device: torch.device, size: int) -> float:
    """Bytes a second of a copy on the device, read and written ones counted."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = device_seconds(lambda: _drop(target.copy_(source)), device, repeats=20)
    return 2 * size / seconds


def _drop(tensor: torch.Tensor) -> None:
    """For lambdas that give nothing."""
