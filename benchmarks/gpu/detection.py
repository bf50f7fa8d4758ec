"""One training step of full-size detectors under each engine that is there."""

from __future__ import annotations

import time

from benchmarks.detector_steps import suite_step, timed
from benchmarks.gpu.measure import with_back_off
from benchmarks.gpu.parts import Part, Row
from benchmarks.gpu.settings import Settings
from bob.detection.detectron2_engine import require_detectron2
from bob.distributed.strategy import make_fabric
from bob.errors import BobError


def run(part: Part, settings: Settings) -> None:
    """Time updates of every backbone under every engine."""
    left_out = []
    longest = 0.0
    for engine in _engines(part):
        for name in settings.detectors:
            if part.late(longest):
                left_out.append(f"{name} under {engine}")
                continue
            start = time.perf_counter()
            with part.step(f"{name} under {engine}"):
                part.rows.append(_measured(settings, name, engine))
            longest = max(longest, time.perf_counter() - start)
    if left_out:
        part.notes.append(f"no time for {', '.join(left_out)}")


def _engines(part: Part) -> list[str]:
    try:
        require_detectron2()
    except BobError as error:
        if error.kind == "unavailable":
            part.notes.append("detectron2 is not installed; torchvision's engine alone was run")
        else:
            part.fail("detectron2", str(error))
        return ["torchvision"]
    return ["torchvision", "detectron2"]


def _measured(settings: Settings, name: str, engine: str) -> Row:
    fabric = make_fabric(settings.device.type, settings.precision)
    changes = dict(settings.detection_changes)

    def attempt(batch: int) -> Row:
        step = suite_step(
            name, fabric, batch=batch, size=settings.detection_size, engine=engine, changes=changes
        )
        seconds, memory = timed(step, fabric, steps=settings.detection_steps)
        return {
            "detector": name,
            "engine": engine,
            "size": list(step.size),
            "batch": batch,
            "parts": step.parts(),
            "step_seconds": seconds,
            "images_per_second": batch / seconds,
            "memory_mb": memory,
        }

    return with_back_off(settings.detection_batch, attempt)
