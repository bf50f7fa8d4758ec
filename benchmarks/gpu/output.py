"""The tables that are printed and the file that is kept."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.parts import Part, Row
from benchmarks.gpu.settings import Settings
from bob.training import environment

Cell = Callable[[Row], str]


def _text(key: str) -> Cell:
    return lambda row: str(row.get(key, ""))


def _number(key: str, form: str, scale: float = 1.0) -> Cell:
    def cell(row: Row) -> str:
        value = row.get(key)
        return "" if value is None else format(value * scale, form)

    return cell


def _range(key: str) -> Cell:
    return lambda row: f"{row[key]:.3f} ({' to '.join(f'{x:.3f}' for x in row[f'{key} range'])})"


def _band(row: Row) -> str:
    return "none" if row["low"] is None else f"[{row['low']:.4f}, {row['high']:.4f}]"


COLUMNS: Mapping[str, Mapping[str, Cell]] = {
    "smoke": {
        "task": _text("task"), "dataset": _text("dataset"), "backbone": _text("backbone"),
        "score": _number("score", ".4f"), "band": _band, "seeds": _text("seeds"),
        "verdict": _text("verdict"), "seconds": _number("seconds", ".1f"),
    },
    "throughput": {
        "model": _text("model"), "work": _text("work"), "batch": _text("batch"),
        "suite img/s": _number("suite", ".1f"), "bare": _number("bare", ".1f"),
        "timm": _number("timm", ".1f"), "suite/bare (range)": _range("suite/bare"),
        "suite/timm (range)": _range("suite/timm"), "suite MB": _number("suite_mb", ".0f"),
        "bare MB": _number("bare_mb", ".0f"), "timm MB": _number("timm_mb", ".0f"),
    },
    "roofline": {
        "model": _text("model"), "step": _text("work"), "batch": _text("batch"),
        "GFLOP/image": _number("flops_per_image", ".2f", 1e-9),
        "MB/image": _number("bytes_per_image", ".1f", 1e-6),
        "FLOP/byte": _number("intensity", ".1f"), "img/s": _number("images_per_second", ".1f"),
        "TFLOP/s": _number("attained", ".2f", 1e-12), "bound": _number("bound", ".2f", 1e-12),
        "share": _number("share", ".1%"), "binds": _text("binds"),
        "suite's share": _number("suite_share", ".1%"),
    },
    "detection": {
        "backbone": _text("detector"), "engine": _text("engine"),
        "size": lambda row: "x".join(map(str, row["size"])), "batch": _text("batch"),
        "parts": _text("parts"), "s/step": _number("step_seconds", ".3f"),
        "img/s": _number("images_per_second", ".2f"), "MB": _number("memory_mb", ".0f"),
    },
}  # fmt: skip


def table(part: Part) -> list[str]:
    """The part as lines: its figures, notes and errors."""
    lines = [f"== {part.name}: {part.status}, {part.seconds:.0f} s"]
    rows = [row for row in part.rows if row.get("work") != "rates"]
    lines += [
        f"{row['model']}: {row['flops_per_second'] / 1e12:.2f} TFLOP/s, "
        f"{row['bytes_per_second'] / 1e9:.1f} GB/s"
        for row in part.rows
        if row.get("work") == "rates"
    ]
    if rows:
        columns = COLUMNS[part.name]
        cells = [[cell(row) for cell in columns.values()] for row in rows]
        lines += _aligned([list(columns), *cells])
    lines += [f"note: {text}" for text in part.notes]
    lines += [f"FAILED {text}" for text in part.errors]
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def machine(device: torch.device) -> dict[str, Any]:
    """The card and what drives it."""
    facts: dict[str, Any] = {
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "threads": torch.get_num_threads(),
    }
    if device.type != "cuda":
        return {"card": "cpu", **facts}
    card = torch.cuda.get_device_properties(device)
    return {
        "card": card.name,
        "memory_gb": card.total_memory / 2**30,
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **facts,
    }


def _driver() -> str:
    """What the kernel module says of itself, or else the CUDA version the driver offers."""
    with contextlib.suppress(OSError, IndexError):
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0].strip()
    with contextlib.suppress(Exception):
        return f"for CUDA {torch._C._cuda_getDriverVersion()}"
    return ""


def record(settings: Settings, parts: Sequence[Part], seconds: float) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    sizes = asdict(settings) | {"device": str(settings.device)}
    return {
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "environment": environment.describe(settings.device, settings.precision),
        "machine": machine(settings.device),
        "settings": sizes,
        "seconds": seconds,
        "status": "failed" if any(part.errors for part in parts) else "ok",
        "parts": {
            part.name: {
                "status": part.status,
                "seconds": part.seconds,
                "rows": part.rows,
                "notes": part.notes,
                "errors": part.errors,
            }
            for part in parts
        },
    }


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write the record."""
    path.write_text(json.dumps(found, indent=1, default=str) + "\n")
