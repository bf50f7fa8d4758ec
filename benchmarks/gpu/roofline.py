"""How near each model comes to what the device could do, counted and measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu.counting import Work, count
from benchmarks.gpu.measure import copy_rate, matmul_rate, seconds_of, with_back_off
from benchmarks.gpu.parts import Part, Row
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.throughput import untrained
from benchmarks.gpu.training_loops import Training, timm_loop, training_on
from bob.backbones import Backbone
from bob.distributed.strategy import make_fabric

_STEPS = {"forward": "extraction", "training step": "training"}
"""Steps, and the work of the throughput part that consists of them."""


def run(part: Part, settings: Settings, throughput: Sequence[Row]) -> None:
    """Rates of the device, then forward pass and training step of every model.

    Args:
        part: Receives the rows.
        settings: Sizes.
        throughput: Rows of that part, for the suite's own share; may be empty.
    """
    with part.step("rates of the device"):
        dtype = settings.autocast or torch.float32
        flops = matmul_rate(settings.device, dtype, settings.matmul)
        moved = copy_rate(settings.device, settings.copied)
        part.rows.append(
            {
                "model": f"product of {settings.matmul}² matrices, copy of "
                f"{settings.copied / 2**20:.0f} MiB",
                "work": "rates",
                "flops_per_second": flops,
                "bytes_per_second": moved,
            }
        )
    if part.errors:
        return
    left_out = []
    longest = 0.0
    for name, batch in settings.models.items():
        if part.late(longest):
            left_out.append(name)
            continue
        start = time.perf_counter()
        with part.step(name):
            backbone = untrained(name, settings.image_size)
            for step, work in _STEPS.items():
                row = _measured(settings, backbone, step, batch)
                row = {"model": name, "work": step, **row, **bound(row, flops, moved)}
                rates = [measured["suite"] for measured in throughput if measured["model"] == name
                         and measured["work"] == work]  # fmt: skip
                if rates:
                    row["suite_share"] = row["share"] * rates[0] / row["images_per_second"]
                part.rows.append(row)
        longest = max(longest, time.perf_counter() - start)
    if left_out:
        part.notes.append(f"no time for {', '.join(left_out)}")


def bound(row: Row, flops: float, moved: float) -> Row:
    """What the device allows at this intensity, and how much of it was attained.

    Args:
        row: ``flops_per_image``, ``bytes_per_image`` and ``images_per_second``.
        flops: Operations a second the device was seen to do.
        moved: Bytes a second it was seen to move.
    """
    intensity = row["flops_per_image"] / row["bytes_per_image"]
    limit = min(flops, moved * intensity)
    attained = row["flops_per_image"] * row["images_per_second"]
    return {
        "intensity": intensity,
        "attained": attained,
        "bound": limit,
        "share": attained / limit,
        "binds": "compute" if flops <= moved * intensity else "memory",
    }


def _measured(settings: Settings, backbone: Backbone, step: str, batch: int) -> Row:
    """Rate of a step on a batch that stays on the device, and what it costs."""
    fabric = make_fabric(settings.device.type, settings.precision)

    def attempt(size: int) -> Row:
        training = training_on(backbone, fabric, dtype=settings.autocast, batch=size, steps=1)
        layout = settings.channels_last
        if step == "forward":
            run = _forward(training, channels_last=layout)
        else:
            run = timm_loop(training, channels_last=layout)
        run()
        seconds_of(lambda: _repeat(run, settings.steps), fabric.device)
        times = [
            seconds_of(lambda: _repeat(run, settings.steps), fabric.device) / settings.steps
            for _ in range(settings.rounds)
        ]
        work: Work = count(run)
        return {
            "batch": size,
            "images_per_second": size / statistics.median(times),
            "flops_per_image": work.flops / size,
            "bytes_per_image": work.bytes / size,
        }

    return with_back_off(batch, attempt)


def _forward(training: Training, *, channels_last: bool) -> Callable[[], None]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = training.model().eval().to(memory_format=layout)
    images = training.images.contiguous(memory_format=layout)

    def run() -> None:
        with torch.no_grad(), training.autocast():
            model[0](images)

    return run


def _repeat(run: Callable[[], None], times: int) -> None:
    for _ in range(times):
        run()
