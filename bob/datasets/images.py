"""Images that stay where they are until they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bob.catalog.image_folder import EXTENSIONS as EXTENSIONS
from bob.errors import BobError, some
from bob.file_digests import digests_of_files

DAMAGED_SHARE = 0.01
"""Share of a split's images that may be unreadable before the case fails."""

_UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    EOFError,
)


class ImageSource(Protocol):
    """Images in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What messages call an image: its path, or its row."""
        ...

    def open(self, index: int) -> Image.Image:
        """The image as it is stored, any mode; raises what Pillow raises."""
        ...

    def facts(self) -> Iterable[str]:
        """One line an image, that changes when the image does."""
        ...


@dataclass(frozen=True)
class Files:
    """Image files.

    Attributes:
        root: Folder that names are relative to.
        names: With forward slashes.
    """

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Path of an image."""
        return str(self.root / self.names[index])

    def open(self, index: int) -> Image.Image:
        """The decoded file, upright."""
        return opened(self.root / self.names[index])

    def facts(self) -> Iterator[str]:
        """Name and digest of the bytes of each file."""
        digests = digests_of_files([self.root / name for name in self.names])
        for name, sha256 in zip(self.names, digests, strict=True):
            yield f"{name} {sha256}"


@dataclass(frozen=True)
class Arrays:
    """Decoded images in memory or mapped into it.

    Attributes:
        values: uint8 ``(n, height, width, 3)``, or anything that is indexed like it.
        what: Named in messages.
    """

    values: Any
    what: str

    def __len__(self) -> int:
        return len(self.values)

    def name(self, index: int) -> str:
        """Row of an image."""
        return f"{self.what}, row {index}"

    def open(self, index: int) -> Image.Image:
        """One row as an image."""
        return Image.fromarray(np.asarray(self.values[index]))

    def facts(self) -> Iterator[str]:
        """A digest of each row."""
        for index in range(len(self)):
            row = np.ascontiguousarray(self.values[index])
            yield hashlib.sha256(row.tobytes()).hexdigest()


@dataclass(frozen=True)
class Picked:
    """Some images of another source."""

    source: ImageSource
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """As the source calls it."""
        return self.source.name(self.rows[index])

    def open(self, index: int) -> Image.Image:
        """As the source opens it."""
        return self.source.open(self.rows[index])

    def facts(self) -> Iterator[str]:
        """The lines of the rows that were picked."""
        if isinstance(self.source, Files):  # the others need not be read
            names = [self.source.names[row] for row in self.rows]
            return Files(self.source.root, names).facts()
        lines = list(self.source.facts())
        return (lines[row] for row in self.rows)


@dataclass
class Damage:
    """Unreadable images of one split, by position."""

    problems: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageSplit:
    """Labelled images in a fixed order, decoded when asked for.

    Attributes:
        source: Where the images are.
        targets: int64 class indices ``(n,)``, or float32 ``(n, labels)`` of 0, 1 and, where a label
            is unknown, NaN.
        damage: Filled in as unreadable images are met.
    """

    source: ImageSource
    targets: torch.Tensor
    damage: Damage = field(default_factory=Damage, compare=False)

    def __post_init__(self) -> None:
        if len(self.source) != len(self.targets):
            raise ValueError(f"{len(self.source)} images and {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the list of images: names and bytes of files, pixels of arrays."""
        digest = hashlib.sha256(f"images {len(self)}\n".encode())
        for line in self.source.facts():
            digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def pil(self, index: int) -> Image.Image:
        """An image, upright, RGB, 8 bits a channel; a grey one where it cannot be read."""
        return self.attempt(index)[0]

    def attempt(self, index: int) -> tuple[Image.Image, str]:
        """An image as of ``pil``, and what is wrong with it; empty when nothing is."""
        try:
            return rgb(self.source.open(index)), ""
        except _UNREADABLE as error:
            name = self.source.name(index)
            return Image.new("RGB", (32, 32), (124, 116, 104)), (
                f"{name} ({type(error).__name__}: {_first_line(error)})"
            )

    def picture(self, index: int) -> torch.Tensor:
        """An image small enough to show, uint8 ``(3, 96, 96)``."""
        return fit(self.pil(index), 96, 1.0)

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> ImageSplit:
        """Some of the images, in the order of their positions given."""
        picks = [int(row) for row in rows]
        return ImageSplit(source=Picked(self.source, picks), targets=self.targets[picks])

    def report(self, index: int, problem: str) -> None:
        """Note an unreadable image.

        Raises:
            BobError: They are more than ``DAMAGED_SHARE`` of the split; ``kind`` is ``dataset``.
        """
        self.damage.problems[index] = problem
        if len(self.damage.problems) > max(1, DAMAGED_SHARE * len(self)):
            raise BobError(
                f"{self._damaged()}. More than {DAMAGED_SHARE:.0%} of a split unreadable is not a "
                "score worth having: restore the files, or take them out.",
                kind="dataset",
            )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was unreadable, in a sentence; empty when nothing was."""
        text = f"{self._damaged()}; grey images took their place"
        return (text,) if self.damage.problems else ()

    def _damaged(self) -> str:
        problems = self.damage.problems
        told = some(problems[index] for index in sorted(problems))
        images = "image" if len(self) == 1 else "images"
        return f"{len(problems)} of {len(self)} {images} cannot be read: {told}"


def opened(file: Path | BinaryIO) -> Image.Image:
    """A decoded file, upright as its EXIF says."""
    with Image.open(file) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: 16 bits scaled to 8, transparency over white."""
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "F"):
        values = np.asarray(image).astype(np.float64)
        top = 1.0 if image.mode == "F" and values.max(initial=0) <= 1 else 255.0
        if values.max(initial=0) > 255:
            top = 65535.0
        scaled = np.clip(values / top * 255, 0, 255).round().astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        whole = image.convert("RGBA")
        canvas = Image.new("RGBA", whole.size, (255, 255, 255, 255))
        return Image.alpha_composite(canvas, whole).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, size: int, crop_pct: float) -> torch.Tensor:
    """Shorter side to ``size / crop_pct`` (bicubic), then the centre of it.

    Args:
        image: RGB.
        size: Height and width of the result.
        crop_pct: Share of the shorter side that is kept.

    Returns:
        uint8 ``(3, size, size)``.
    """
    from torchvision.transforms import functional

    edge = int(size / crop_pct)
    resized = functional.resize(
        image, [edge], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
    )
    cropped: torch.Tensor = functional.pil_to_tensor(functional.center_crop(resized, [size, size]))
    return cropped


def _first_line(error: BaseException) -> str:
    return (str(error) or "no further word").splitlines()[0]
