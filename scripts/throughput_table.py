"""Write the table of published throughputs that ``bob plan`` estimates from.

    python -m scripts.throughput_table COLLECTED.csv

COLLECTED.csv holds one published measurement a row, with the columns ``timm_name_or_checkpoint``,
``setting`` (such as ``infer 224px, bs 1024, RTX 4090, AMP NCHW, PT2.9.1``; ``A100 fp16`` for
Hiera's), ``value`` in images/s, ``source_repo``, ``source_path`` and ``source_commit``. The sources
are the benchmark results of huggingface/pytorch-image-models and the README of
facebookresearch/hiera. Rows of GPUs are kept, those of CPUs are not. Parameters are counted on
timm's architecture without classifier.
"""

from __future__ import annotations

import argparse
import csv
import re
from functools import cache
from pathlib import Path

import timm
import torch

OUT = Path(__file__).parents[1] / "bob" / "cost" / "throughput.csv"
_SETTING = re.compile(r"(infer|train) (\d+)px, bs (\d+), ([^,]+), (.+)")
_HIERA = re.compile(r"A100 fp16")
COLUMNS = (
    "gpu", "mode", "architecture", "parameters_m", "image_size", "batch_size", "images_per_second",
    "software", "source_repo", "source_path", "source_commit",
)  # fmt: skip


@cache
def parameters_m(architecture: str) -> str:
    """Millions of parameters without classifier; empty where this timm lacks the architecture."""
    if not timm.is_model(architecture):
        return ""
    with torch.device("meta"):
        module = timm.create_model(architecture, pretrained=False, num_classes=0)
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}"


def row(source: dict[str, str]) -> dict[str, str] | None:
    """One row of the table, or none for a measurement that is not of a GPU."""
    architecture = source["timm_name_or_checkpoint"].split(".")[0]
    matched = _SETTING.fullmatch(source["setting"])
    if matched:
        mode, size, batch, gpu, software = matched.groups()
        if gpu.startswith("CPU"):
            return None
    elif _HIERA.fullmatch(source["setting"]):
        mode, size, batch, gpu, software = "infer", "224", "", "A100", "fp16"
    else:
        raise SystemExit(f"unknown setting {source['setting']!r}")
    return {
        "gpu": gpu,
        "mode": mode,
        "architecture": architecture,
        "parameters_m": parameters_m(architecture),
        "image_size": size,
        "batch_size": batch,
        "images_per_second": source["value"],
        "software": software,
        **{key: source[key] for key in ("source_repo", "source_path", "source_commit")},
    }


def main() -> None:
    """Read the collected rows, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collected", type=Path)
    with parser.parse_args().collected.open(encoding="utf-8", newline="") as file:
        rows = [
            measurement for measurement in map(row, csv.DictReader(file)) if measurement is not None
        ]
    # One architecture may stand there once for each of its checkpoints.
    unique = {
        (
            measurement["gpu"],
            measurement["mode"],
            measurement["architecture"],
            measurement["image_size"],
        ): measurement
        for measurement in reversed(rows)
    }
    ordered = sorted(
        unique.values(),
        key=lambda measurement: (
            measurement["gpu"],
            measurement["mode"],
            measurement["architecture"],
            int(measurement["image_size"]),
        ),
    )
    with OUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
    print(f"{len(ordered)} rows in {OUT}")


if __name__ == "__main__":
    main()
