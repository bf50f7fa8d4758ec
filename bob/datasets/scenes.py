"""Digit scenes: real digits over photographs, with exact boxes and masks, as a COCO folder on disk.

``digit_scenes`` are handwritten, ``font_scenes`` printed; each is drawn once, from the parts of
digits and photographs that a protocol may learn from and test on, and kept as PNG and JSON files in
the user's cache, so that smoke cases run the same loading code as COCO. Digits are brighter or
darker than what they lie on: over an even ground any filter finds them. Everything is computed in
whole numbers and drawn from a stream that NumPy promises not to change, so that every machine draws
the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bob.catalog.coco_folder import joint_digest
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import (
    DetectionData,
    DetectionShift,
    DetectionShiftData,
    load_coco,
)
from bob.datasets.photographs import photographs
from bob.errors import BobError
from bob.hashing import digest_of
from bob.places import scenes_root
from bob.shared_folders import shared_lock

RECIPE_VERSION = 2
CANVAS = 64
SIZES = (22, 34)
CONTRAST = (90, 200)
MOST = 3
TRAIN, TEST = 256, 160
_INK = 16 * 256 * 256
_MASK_FROM = _INK * 2 // 5
_TRIES = 40


@dataclass(frozen=True)
class Glyphs:
    """Digits to draw with: ink counts 0..16, uint8 ``(n, 8, 8)``, and their classes ``(n,)``."""

    counts: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Stream:
    """Whole numbers from a counter-based generator, the same everywhere and in every version."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def below(self, limit: int) -> int:
        """One number of ``0 .. limit - 1``."""
        return int(self._bits.random_raw() % np.uint64(limit))


def enlarged(counts: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """Ink counts ``(8, 8)`` enlarged bilinearly to ``(side, side)``, 0 to ``16 * 2 ** 16``."""
    position = np.clip(((2 * np.arange(side) + 1) * 8 * 128) // side - 128, 0, 7 * 256)
    low = position // 256
    high, share = np.minimum(low + 1, 7), position % 256
    ink = counts.astype(np.int64)
    rows = ink[low] * (256 - share)[:, None] + ink[high] * share[:, None]
    return np.asarray(rows[:, low] * (256 - share) + rows[:, high] * share)


def draw_scene(
    glyphs: Glyphs, backgrounds: Sequence[NDArray[np.int64]], stream: Stream
) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.bool_]]]]:
    """One scene.

    Args:
        glyphs: Digits to draw.
        backgrounds: Grey pictures of at least ``(64, 64)``, of which one gives a part.
        stream: What decides.

    Returns:
        The picture, uint8 ``(64, 64)``, and class and mask ``(64, 64)`` of each digit in it: one to
        three, whose boxes do not overlap.
    """
    canvas = _cut(backgrounds[stream.below(len(backgrounds))], stream)
    digits: list[tuple[int, NDArray[np.bool_]]] = []
    taken = np.zeros((CANVAS, CANVAS), bool)
    for _ in range(1 + stream.below(MOST)):
        pick = stream.below(len(glyphs.labels))
        side = SIZES[0] + stream.below(SIZES[1] - SIZES[0] + 1)
        ink = enlarged(glyphs.counts[pick], side)
        contrast = CONTRAST[0] + stream.below(CONTRAST[1] - CONTRAST[0] + 1)
        brighter = bool(stream.below(2))
        place = free_place(taken, side, stream.below)
        if place is None:
            continue
        level = _level(int(canvas[place].sum()) // side**2, contrast, brighter)
        canvas[place] += (level - canvas[place]) * ink // _INK
        mask = np.zeros((CANVAS, CANVAS), bool)
        mask[place] = ink >= _MASK_FROM
        digits.append((int(glyphs.labels[pick]), mask))
    return canvas.astype(np.uint8), digits


def free_place(
    taken: NDArray[np.bool_], side: int, below: Callable[[int], int], *, tries: int = _TRIES
) -> tuple[slice, slice] | None:
    """Take a square of a canvas of which nothing is taken yet; none if no try finds one.

    Args:
        taken: What is, ``(64, 64)``; the square is added to it.
        side: Of the square, in pixels.
        below: Draws a whole number below another.
        tries: Places to try.
    """
    for _ in range(tries):
        top, left = below(CANVAS - side + 1), below(CANVAS - side + 1)
        place = np.s_[top : top + side, left : left + side]
        if not taken[place].any():
            taken[place] = True
            return place
    return None


def _cut(background: NDArray[np.int64], stream: Stream) -> NDArray[np.int64]:
    """A part of the canvas's size, mirrored half of the time."""
    if stream.below(2):
        background = background[:, ::-1]
    top, left = (stream.below(side - CANVAS + 1) for side in background.shape)
    return background[top : top + CANVAS, left : left + CANVAS].copy()


def _level(ground: int, contrast: int, brighter: bool) -> int:
    """Brightness of ink over ground of a mean brightness; the other way where there is no room."""
    fits = {True: ground + contrast <= 255, False: ground - contrast >= 0}
    if not fits[brighter]:
        brighter = fits[True] if any(fits.values()) else ground < 128
    return min(255, ground + contrast) if brighter else max(0, ground - contrast)


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as COCO's uncompressed run-length encoding: column by column, zeros first."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def write_split(
    folder: Path, part: Literal["train", "val"], glyphs: Glyphs, *, count: int, seed: int
) -> None:
    """Draw scenes into ``folder/<part>/*.png`` and ``folder/annotations/instances_<part>.json``."""
    stream, backgrounds = Stream(seed), photographs(part)
    pictures = folder / part
    pictures.mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        canvas, digits = draw_scene(glyphs, backgrounds, stream)
        name = f"{number:06d}.png"
        Image.fromarray(canvas).convert("RGB").save(pictures / name)
        images.append({"id": number, "file_name": name, "height": CANVAS, "width": CANVAS})
        for label, mask in digits:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y = int(columns[0]), int(rows[0])
            box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": run_lengths(mask),
                }
            )
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))


@lru_cache(maxsize=2)
def load(*, glyphs: str = "handwritten", train: int = TRAIN, test: int = TEST) -> DetectionData:
    """Load digit scenes, drawing them on first use.

    Args:
        glyphs: ``handwritten`` or ``printed``.
        train: Scenes in the train split.
        test: Scenes in the test split.

    Raises:
        BobError: The cache folder cannot be written.
    """
    parts = _handwritten() if glyphs == "handwritten" else _printed()
    sources = [[part.counts.tobytes().hex(), part.labels.tolist()] for part in parts]
    key = digest_of([RECIPE_VERSION, CANVAS, SIZES, CONTRAST, MOST, train, test, sources])
    folder = scenes_root() / f"{glyphs}-{key}"
    _drawn(folder, parts, (train, test))
    data = load_coco(path=str(folder))
    # pixels and not bytes: versions of Pillow write the same picture differently
    annotated = joint_digest(data.train.digest, data.test.digest)
    return DetectionData(
        sha256=hashlib.sha256(
            "".join([annotated, pixels_digest(data.train), pixels_digest(data.test)]).encode()
        ).hexdigest(),
        class_names=data.class_names,
        train=data.train,
        test=data.test,
    )


def load_shifted() -> DetectionShiftData:
    """Printed scenes to learn from and test on, handwritten ones as the shift."""
    source, target = load(glyphs="printed"), load()
    return DetectionShiftData(
        sha256=hashlib.sha256((source.sha256 + target.sha256).encode()).hexdigest(),
        class_names=source.class_names,
        train=source.train,
        test=source.test,
        shifts=(DetectionShift(name="handwritten", split=target.test),),
    )


def pixels_digest(split: CocoSplit) -> str:
    """Hex SHA-256 of every picture's pixels, in the split's order."""
    digest = hashlib.sha256()
    for index in range(len(split)):
        digest.update(split.sample(index).image.contiguous().numpy().data)
    return digest.hexdigest()


def _drawn(folder: Path, parts: Sequence[Glyphs], counts: tuple[int, int]) -> None:
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with shared_lock(folder.with_name(f"{folder.name}.lock")):
            if folder.is_dir():
                return
            fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".drawing-"))
            try:
                write_split(fresh, "train", parts[0], count=counts[0], seed=0)
                write_split(fresh, "val", parts[1], count=counts[1], seed=1)
                fresh.chmod(0o755)
                os.replace(fresh, folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise BobError(
            f"Cannot keep digit scenes in {folder.parent}: {error}. Name another folder in "
            "BOB_SCENES.",
            kind="dataset",
        ) from error


def _handwritten() -> tuple[Glyphs, Glyphs]:
    from bob.datasets import digits

    counts, labels = digits.read()
    return Glyphs(counts[:1200], labels[:1200]), Glyphs(counts[1200:], labels[1200:])


def _printed() -> tuple[Glyphs, Glyphs]:
    from bob.datasets.font_digits import PARTS
    from bob.datasets.rendered import read

    parts = read("font_digits", PARTS).parts
    return Glyphs(*parts["train"]), Glyphs(*parts["test"])
