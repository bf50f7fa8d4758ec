"""Drawings that ship with the package, because FreeType versions render differently.

``scripts/render_glyphs.py`` writes the files. One part, such as ``train``, is a pair of arrays:
``<part>_counts``, uint8 of shape ``(n, 8, 8)`` with ink counts 0..16, and ``<part>_labels``, int64
of shape ``(n,)``.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import features

from bob.datasets.base import Split
from bob.datasets.pixels import counts_to_rgb
from bob.errors import BobError

FOLDER = Path(__file__).resolve().parent
IMAGE_SIZE = 32

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def freetype_version() -> str:
    """Version of the FreeType that draws on this machine."""
    return str(features.version("freetype2"))


@dataclass(frozen=True)
class Rendered:
    """The parts of one file.

    Attributes:
        parts: Counts and labels by the part's name.
        freetype: Version of FreeType that drew them.
    """

    parts: dict[str, Part]
    freetype: str

    @property
    def sha256(self) -> str:
        """Digest of all counts and labels, in the order of the parts."""
        digest = hashlib.sha256()
        for counts, labels in self.parts.values():
            digest.update(counts.tobytes() + labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def split(self, part: str) -> Split:
        """One part as 32 x 32 RGB images, enlarged bilinearly like the handwritten digits."""
        counts, labels = self.parts[part]
        images = counts_to_rgb(counts, IMAGE_SIZE).mul_(255).round_().to(torch.uint8)
        return Split(images, torch.from_numpy(labels.astype(np.int64)))


def read(name: str, parts: tuple[str, ...], *, folder: Path = FOLDER) -> Rendered:
    """Read drawings.

    Args:
        name: File name without its ending.
        parts: Names of the parts to read.
        folder: Where the file lies.

    Raises:
        BobError: The file is missing or damaged; ``kind`` is ``dataset``.
    """
    path = folder / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Rendered(
                {part: _checked(arrays[f"{part}_counts"], arrays[f"{part}_labels"])
                 for part in parts},
                str(arrays["freetype"]),
            )  # fmt: skip
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        state = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise BobError(
            f"{path} is {state} ({type(error).__name__}: {error}). It ships with the package: "
            "reinstall battle-of-backbones, or restore the file from version control.",
            kind="dataset",
        ) from error


def _checked(counts: NDArray[np.uint8], labels: NDArray[np.int64]) -> Part:
    if counts.dtype != np.uint8 or counts.shape != (len(labels), 8, 8) or counts.max() > 16:
        raise ValueError(f"ink counts are {counts.dtype} of shape {counts.shape}")
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}")
    return counts, labels
