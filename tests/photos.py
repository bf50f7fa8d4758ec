"""Photographs of three classes, written with Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bob.case import Context
from bob.catalog import Catalog
from bob.plan import Plan, Selection
from bob.run import run_case

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(30, 60, 2)
    pixels = rng.integers(0, 80, (height, width, 3)).astype(np.uint8)
    pixels[8:-8, 8:-8] = colour
    return Image.fromarray(pixels)


def write_photos(root: Path, count: int, *, first: int = 0, classes: tuple[str, ...] = ()) -> None:
    for index, (name, colour) in enumerate(COLOURS.items()):
        if classes and name not in classes:
            continue
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            picture(colour, 1000 * index + number).save(folder / f"{number:03d}.png")


def touch(root: Path, *names: str) -> None:
    """Files whose content planning never looks at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(len(Path(name).suffix)))


def run_task(task: str, spec: str, catalog: Catalog):  # type: ignore[no-untyped-def]
    selection = Selection(backbones=("resnet_micro_glyphs",), datasets=(spec,))
    (case,) = Plan(catalog, selection).cases(task)
    return run_case(case, Context(accelerator="cpu", workers=0))
