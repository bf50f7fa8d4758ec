"""Images that stay where they are until they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bob.datasets.decoding import mode_of, noted, opened
from bob.datasets.pixel_values import Ranges, rgb
from bob.errors import BobError, first_line, some
from bob.file_digests import UNREADABLE, digests_of_files
from bob.regular_files import inside

MOST_ELONGATED = 16
"""Images longer than this many times their width are cropped before they are resized: the whole of
a 20,000 by 2 picture, resized, takes gigabytes."""

DAMAGED_SHARE = 0.01
"""Share of a split's images that may be unreadable before the case fails."""


class ImageSource(Protocol):
    """Images in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What messages call an image: its path, or its row."""
        ...

    def open(self, index: int) -> Image.Image:
        """The image as it is stored, any mode; raises what Pillow raises."""
        ...

    def mode(self, index: int) -> str:
        """Pillow's mode of the stored image, found without decoding it where that is possible."""
        ...

    def facts(self) -> Iterable[str]:
        """One line an image, that changes when the image does."""
        ...


@dataclass(frozen=True)
class Files:
    """Image files; one whose name leads out of their folder is unreadable.

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
        return opened(inside(self.root, self.names[index]))

    def mode(self, index: int) -> str:
        """Mode that the file's head tells."""
        return mode_of(inside(self.root, self.names[index]))

    def facts(self) -> Iterator[str]:
        """Name and digest of the bytes of each file."""
        paths = [self._place(name) for name in self.names]
        digests = iter(digests_of_files([path for path in paths if path is not None]))
        for name, path in zip(self.names, paths, strict=True):
            yield f"{name} {UNREADABLE if path is None else next(digests)}"

    def _place(self, name: str) -> Path | None:
        try:
            return inside(self.root, name)
        except OSError:
            return None


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

    def mode(self, index: int) -> str:
        """RGB."""
        return "RGB"

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

    def mode(self, index: int) -> str:
        """As of the source."""
        return self.source.mode(self.rows[index])

    def facts(self) -> Iterator[str]:
        """The lines of the rows that were picked."""
        if isinstance(self.source, Files):  # the others need not be read
            names = [self.source.names[row] for row in self.rows]
            return Files(self.source.root, names).facts()
        lines = list(self.source.facts())
        return (lines[row] for row in self.rows)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with an image.

    Attributes:
        text: In words, with the image's name.
        readable: Whether its pixels are sound all the same.
    """

    text: str
    readable: bool = False


@dataclass
class Damage:
    """What was found wrong with images of one split, by position.

    Attributes:
        problems: Of those that cannot be read.
        notes: Of those whose pixels are sound.
    """

    problems: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageSplit:
    """Labelled images in a fixed order, decoded when asked for.

    Attributes:
        source: Where the images are.
        targets: int64 class indices ``(n,)``, or float32 ``(n, labels)`` of 0, 1 and, where a label
            is unknown, NaN.
        ranges: What is black and white where images have more than 8 bits; none where nobody
            looked.
        damage: Filled in as damaged images are met.
    """

    source: ImageSource
    targets: torch.Tensor
    ranges: Ranges | None = None
    damage: Damage = field(default_factory=Damage, compare=False)

    def __post_init__(self) -> None:
        if len(self.source) != len(self.targets):
            raise ValueError(f"{len(self.source)} images and {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of names and bytes of files, pixels of arrays, and their ranges."""
        digest = hashlib.sha256(f"images {len(self)}\n".encode())
        for line in self.source.facts():
            digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
        if self.ranges is not None and self.ranges.wide:
            digest.update(repr(self.ranges).encode())
        return digest.hexdigest()

    def pil(self, index: int) -> Image.Image:
        """An image, upright, RGB, 8 bits a channel; a grey one where it cannot be read."""
        return self.attempt(index)[0]

    def attempt(self, index: int) -> tuple[Image.Image, Trouble | None]:
        """An image as of ``pil``, and what is wrong with it.

        Raises:
            BobError: The source is not one that can be read at all.
        """
        try:
            stored = self.source.open(index)
            note = noted(stored)
            image = rgb(stored, self.ranges)
        except BobError:
            raise
        except Exception as error:  # decoders of damaged files raise whatever they like
            text = f"{self.source.name(index)} ({type(error).__name__}: {first_line(error)})"
            return Image.new("RGB", (32, 32), (124, 116, 104)), Trouble(text)
        if note:
            return image, Trouble(f"{self.source.name(index)} ({note})", readable=True)
        return image, None

    def picture(self, index: int) -> torch.Tensor:
        """An image small enough to show, uint8 ``(3, 96, 96)``."""
        return fit(self.pil(index), 96, 1.0)

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> ImageSplit:
        """Some of the images, in the order of their positions given."""
        picks = [int(row) for row in rows]
        return replace(
            self,
            source=Picked(self.source, picks),
            targets=self.targets[picks],
            damage=Damage(),
        )

    def with_ranges(self, ranges: Ranges) -> ImageSplit:
        """The same images under other ranges of values."""
        return replace(self, ranges=ranges)

    def report(self, index: int, trouble: Trouble) -> None:
        """Note a damaged image.

        Raises:
            BobError: Unreadable ones are more than ``DAMAGED_SHARE`` of the split; ``kind`` is
                ``dataset``.
        """
        if trouble.readable:
            self.damage.notes[index] = trouble.text
            return
        self.note(Damage(problems={index: trouble.text}))

    def note(self, damage: Damage) -> None:
        """Note what was found damaged elsewhere; raises as ``report``."""
        self.damage.notes.update(damage.notes)
        self.damage.problems.update(damage.problems)
        if len(self.damage.problems) > max(1, DAMAGED_SHARE * len(self)):
            raise BobError(
                f"{self._damaged()}. More than {DAMAGED_SHARE:.0%} of a split unreadable is not a "
                "score worth having: restore the files, or take them out.",
                kind="dataset",
            )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was damaged, a sentence each; empty when nothing was."""
        remarks = []
        if self.damage.problems:
            remarks.append(f"{self._damaged()}; grey images took their place")
        if notes := self.damage.notes:
            images = "image is" if len(notes) == 1 else "images are"
            told = some(notes[index] for index in sorted(notes))
            remarks.append(f"{len(notes)} {images} sound but for what stands beside them: {told}")
        return tuple(remarks)

    def _damaged(self) -> str:
        problems = self.damage.problems
        told = some(problems[index] for index in sorted(problems))
        images = "image" if len(self) == 1 else "images"
        return f"{len(problems)} of {len(self)} {images} cannot be read: {told}"


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
    short, long = sorted(image.size)
    if long > MOST_ELONGATED * short:
        return functional.pil_to_tensor(_centre(image, edge, size))
    resized = functional.resize(
        image, [edge], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
    )
    cropped: torch.Tensor = functional.pil_to_tensor(functional.center_crop(resized, [size, size]))
    return cropped


def _centre(image: Image.Image, edge: int, size: int) -> Image.Image:
    """The same, but nothing that is cropped away is made first."""
    short = min(image.size)
    box = [0.0] * 4
    for axis, side in enumerate(image.size):
        resized = int(edge * side / short)
        start = round((resized - size) / 2)  # where torchvision's centre crop begins
        box[axis] = max(0.0, start * side / resized)
        box[axis + 2] = min(float(side), (start + size) * side / resized)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=tuple(box))
