"""Letters in clutter, with what a detector would have to know of every pixel.

What lies behind the letters is drawn: dead leaves (shapes that cover one another, with sizes and
edges like those of photographs) and clouds (noise of a falling spectrum), sources of images without
a single photograph. Source of the idea: M. Baradad et al., Learning to See by Looking at Noise,
arXiv 2106.05963. Neither a digit nor a photograph of ``bob.datasets.scenes`` is among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bob.datasets.scenes import CANVAS, enlarged, free_place

SIDES = (20, 37)
CONTRAST = (50.0, 170.0)
REACH = 16.0
_GROUND = 96
_TRIES = 30


@dataclass(frozen=True)
class LetterScenes:
    """Scenes of ``(64, 64)`` pixels.

    Attributes:
        images: Grey, uint8 ``(n, 64, 64)``.
        labels: The class whose box a pixel is in, or the number of classes; uint8 ``(n, 64, 64)``.
        ink: Whether a pixel is inked, bool ``(n, 64, 64)``.
        edges: Distances to the top, bottom, left and right edge of the box that a pixel is in, in
            units of 16 pixels; float16 ``(n, 4, 64, 64)``.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ink: torch.Tensor
    edges: torch.Tensor


def draw(
    count: int,
    counts: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    classes: int,
    rng: np.random.Generator,
) -> LetterScenes:
    """Draw scenes of one to three letters whose boxes do not overlap.

    Args:
        count: Scenes.
        counts: Ink counts 0..16 of letters to draw with, ``(m, 8, 8)``.
        labels: Their classes.
        classes: Number of classes.
        rng: What decides.
    """
    images = np.zeros((count, CANVAS, CANVAS), np.uint8)
    where = np.full((count, CANVAS, CANVAS), classes, np.uint8)
    ink = np.zeros((count, CANVAS, CANVAS), bool)
    edges = np.zeros((count, 4, CANVAS, CANVAS), np.float16)
    for index in range(count):
        canvas = _background(rng)
        taken = np.zeros((CANVAS, CANVAS), bool)
        for _ in range(int(rng.integers(1, 4))):
            pick = rng.integers(len(labels))
            side = int(rng.integers(SIDES[0], SIDES[1] + 1))
            strength = enlarged(counts[pick], side) / (16 * 65536)
            place = free_place(taken, side, lambda limit: int(rng.integers(limit)), tries=_TRIES)
            if place is None:
                continue
            top, left = place[0].start, place[1].start
            canvas[place] += (_level(canvas[place].mean(), rng) - canvas[place]) * strength
            mask = strength >= 0.4
            if not mask.any():
                continue
            ink[index][place] |= mask
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            first, last = top + rows[0], top + rows[-1] + 1
            start, end = left + columns[0], left + columns[-1] + 1
            where[index, first:last, start:end] = labels[pick]
            y, x = np.mgrid[first:last, start:end] + 0.5
            distances = np.stack([y - first, last - y, x - start, end - x])
            edges[index, :, first:last, start:end] = distances / REACH
        images[index] = np.clip(canvas, 0, 255)
    return LetterScenes(*(torch.from_numpy(part) for part in (images, where, ink, edges)))


def _level(ground: float, rng: np.random.Generator) -> float:
    """Brightness of ink over a ground: brighter or darker, where there is room."""
    contrast, brighter = rng.uniform(*CONTRAST), rng.random() < 0.5
    if ground + contrast > 255:
        brighter = False
    elif ground - contrast < 0:
        brighter = True
    return min(255.0, ground + contrast) if brighter else max(0.0, ground - contrast)


def _background(rng: np.random.Generator) -> NDArray[np.float64]:
    """Grey clutter ``(64, 64)``, 0 to 255, of any brightness and contrast."""
    kind = rng.random()
    if kind < 0.2:
        plane = np.zeros((CANVAS, CANVAS)) + rng.normal(0, 1) * np.linspace(0, 1, CANVAS)
    else:
        plane = _leaves(rng) if kind < 0.6 else _clouds(rng)
        if 0.45 <= kind < 0.6:
            plane = plane + _clouds(rng) * rng.uniform(0, 0.7)
        top, left = rng.integers(0, _GROUND - CANVAS, 2)
        plane = plane[top : top + CANVAS, left : left + CANVAS]
    spread = plane.std() + 1e-6
    plane = (plane - plane.mean()) / spread * rng.uniform(2, 60) + rng.uniform(10, 245)
    noisy = plane + rng.normal(0, rng.uniform(0, 6), (CANVAS, CANVAS))
    return np.asarray(np.clip(noisy, 0, 255))


def _clouds(rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise whose power falls with frequency, of mean 0 and deviation 1."""
    frequency = np.fft.fftfreq(_GROUND) ** 2
    power = frequency[:, None] + frequency[None]
    power[0, 0] = 1
    fall = rng.uniform(0.4, 1.1)
    white = rng.standard_normal((_GROUND, _GROUND))
    plane = np.fft.ifft2(np.fft.fft2(white) / power**fall).real
    return np.asarray((plane - plane.mean()) / plane.std())


def _leaves(rng: np.random.Generator) -> NDArray[np.float64]:
    """Discs, rectangles and strokes that cover one another."""
    plane = np.zeros((_GROUND, _GROUND))
    y, x = np.mgrid[:_GROUND, :_GROUND]
    smallest = rng.uniform(2, 6)
    for _ in range(int(rng.integers(40, 250))):
        size = min(smallest / (rng.random() + 0.03) ** 0.7, 60)
        row, column = rng.integers(0, _GROUND, 2)
        value = rng.normal()
        shape = rng.integers(3)
        if shape == 0:
            inside = (y - row) ** 2 + (x - column) ** 2 < size * size
        elif shape == 1:
            inside = (abs(y - row) < size * rng.uniform(0.3, 1)) & (
                abs(x - column) < size * rng.uniform(0.3, 1)
            )
        else:
            turn = rng.uniform(0, np.pi)
            across = (y - row) * np.cos(turn) + (x - column) * np.sin(turn)
            along = (x - column) * np.cos(turn) - (y - row) * np.sin(turn)
            inside = (abs(across) < rng.uniform(0.7, 3)) & (abs(along) < size)
        plane[inside] = value
    return plane
