"""The published throughputs: images per second of an architecture on a GPU.

``throughput.csv`` is written by ``scripts/throughput_table.py``; every row names its source and
commit.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bob.errors import BobError, unknown

FILE = Path(__file__).with_name("throughput.csv")


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        mode: ``infer`` (forward passes) or ``train`` (whole updates).
        parameters_m: Millions, without classifier.
        image_size: Side of the square images.
        batch_size: Images at once; 0 where the source does not say.
        images_per_second: What was measured.
        source: Repository, path and commit.
    """

    gpu: str
    mode: str
    architecture: str
    parameters_m: float
    image_size: int
    batch_size: int
    images_per_second: float
    source: str


@cache
def rows() -> tuple[Row, ...]:
    """Every measurement of the table."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Row(
                gpu=record["gpu"],
                mode=record["mode"],
                architecture=record["architecture"],
                parameters_m=float(record["parameters_m"]),
                image_size=int(record["image_size"]),
                batch_size=int(record["batch_size"] or 0),
                images_per_second=float(record["images_per_second"]),
                source="{source_repo} {source_path} @ {source_commit}".format(**record),
            )
            for record in csv.DictReader(file)
        )


def gpus() -> dict[str, int]:
    """Forward measurements by GPU, most first."""
    counted = Counter(row.gpu for row in rows() if row.mode == "infer")
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


DEFAULT_GPU = "RTX 4090"
"""The GPU with most forward measurements (the first by name of two)."""


def check_gpu(name: str) -> str:
    """The table's own spelling of a GPU's name.

    Raises:
        BobError: The table has no such GPU; the nearest names are offered.
    """
    for known in gpus():
        if known.lower() == name.lower():
            return known
    error = unknown("GPU", name, gpus())
    raise BobError(f"{error} The table has: {', '.join(gpus())}.")


def family_of(architecture: str) -> str:
    """Leading letters of a name: ``convnext_tiny`` is ``convnext``, ``test_vit`` is ``vit``."""
    letters = re.match(r"[a-z]+", architecture.lower().removeprefix("test_"))
    return letters.group() if letters else architecture


def patch_of(architecture: str) -> int:
    """Side of a token in pixels where the name says so, else 16; only ratios matter."""
    found = re.search(r"patch(\d+)", architecture)
    # Windowed hierarchies call their first stride a patch; their cost follows pixels alike.
    return int(found.group(1)) if found and int(found.group(1)) > 4 else 16
