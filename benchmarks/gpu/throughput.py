"""Images a second through the suite beside a bare loop and timm's, in turns."""

from __future__ import annotations

import statistics
import time

from benchmarks.gpu import extraction_loops, training_loops
from benchmarks.gpu.measure import Contestant, contestant, take_turns, with_back_off
from benchmarks.gpu.parts import Part, Row
from benchmarks.gpu.settings import Settings
from bob.backbones import Backbone, build_backbone
from bob.catalog import load_catalog, parse_backbone
from bob.distributed.strategy import make_fabric


def untrained(name: str, image_size: int) -> Backbone:
    """A backbone of timm's with random weights, on the CPU."""
    entry = parse_backbone(f"timm:{name},pretrained=false", load_catalog())
    return build_backbone(entry, image_size=image_size)


def run(part: Part, settings: Settings) -> None:
    """Training and extraction of every model, as far as time goes."""
    left_out = []
    longest = 0.0
    for name, batch in settings.models.items():
        if part.late(longest):
            left_out.append(name)
            continue
        start = time.perf_counter()
        with part.step(f"training {name}"):
            part.rows.append(_training(part, settings, name, batch))
        with part.step(f"extraction {name}"):
            part.rows.append(_extraction(part, settings, name))
        longest = max(longest, time.perf_counter() - start)
    if left_out:
        part.notes.append(f"no time for {', '.join(left_out)}")


def _training(part: Part, settings: Settings, name: str, batch: int) -> Row:
    start = time.perf_counter()
    fabric = make_fabric(settings.device.type, settings.precision)
    backbone = untrained(name, settings.image_size)

    def attempt(size: int) -> tuple[int, dict[str, Contestant]]:
        training = training_loops.training_on(
            backbone, fabric, dtype=settings.autocast, batch=size, steps=settings.steps
        )
        layout = settings.channels_last
        makers = {
            "suite": lambda: training_loops.suite(training),
            "bare": lambda: training_loops.bare(training),
            "timm": lambda: training_loops.timm_loop(training, channels_last=layout),
        }
        loops = {key: contestant(make, fabric.device) for key, make in makers.items()}
        take_turns(loops, fabric.device, rounds=settings.rounds, late=part.late)
        return size, loops

    batch, loops = with_back_off(batch, attempt)
    row = _row(loops, batch * settings.steps)
    return {
        "model": name, "work": "training", "batch": batch, **row,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _extraction(part: Part, settings: Settings, name: str) -> Row:
    start = time.perf_counter()
    fabric = make_fabric(settings.device.type, settings.precision)
    extraction = extraction_loops.extraction_on(
        untrained(name, settings.image_size), fabric, dtype=settings.autocast,
        images=settings.images,
    )  # fmt: skip
    layout = settings.channels_last
    makers = {
        "suite": lambda: extraction_loops.suite(extraction),
        "bare": lambda: extraction_loops.bare(extraction),
        "timm": lambda: extraction_loops.timm_loop(extraction, channels_last=layout),
    }
    loops = {key: contestant(make, fabric.device) for key, make in makers.items()}
    take_turns(loops, fabric.device, rounds=settings.rounds, late=part.late)
    row = _row(loops, len(extraction.images))
    return {
        "model": name, "work": "extraction", "batch": extraction.batch, **row,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _row(loops: dict[str, Contestant], images: int) -> Row:
    """Medians over rounds; ratios are taken round by round."""
    rates = {key: [images / each for each in loop.seconds] for key, loop in loops.items()}
    row: Row = {key: statistics.median(many) for key, many in rates.items()}
    for other in ("bare", "timm"):
        pairs = zip(rates["suite"], rates[other], strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        row[f"suite/{other}"] = statistics.median(ratios)
        row[f"suite/{other} range"] = [min(ratios), max(ratios)]
    row |= {f"{key}_mb": loop.peak_mb for key, loop in loops.items()}
    return {**row, "rounds": len(rates["suite"])}
