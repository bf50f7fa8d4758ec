"""Image files as Pillow decodes them, whatever stands beside their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from bob.errors import first_line

DEEP = "RGB;16"
"""Sixteen bits a channel, in colour or beside transparency: Pillow decodes the upper eight."""

_NOTE = "bob note"
_JPEG = b"\xff\xd8\xff"


def opened(file: Path | BinaryIO) -> Image.Image:
    """A decoded file, upright as its EXIF says.

    Where EXIF or XMP cannot be understood, the image is left as it is stored; see ``noted``.
    """
    with Image.open(file) as image:
        image.load()
        return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """A decoded image turned as its EXIF says; as it is stored where that cannot be understood."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # parsers of damaged metadata raise whatever they like
        kept = image.copy()
        kept.info[_NOTE] = (
            f"its metadata cannot be read, so it is not turned: {type(error).__name__}: "
            f"{first_line(error)}"
        )
        return kept


def noted(image: Image.Image) -> str:
    """What ``opened`` found wrong beside the pixels; empty when nothing was."""
    return str(image.info.get(_NOTE, ""))


def mode_of(file: Path | BinaryIO) -> str:
    """Pillow's mode of a file, from its head alone; ``DEEP`` for 16 bits a channel.

    Every JPEG file is told as RGB: Pillow decodes no other depth, and its first bytes are read
    five times as fast as its head.
    """
    if isinstance(file, Path):
        with file.open("rb") as start:
            if start.read(len(_JPEG)) == _JPEG:
                return "RGB"
    with Image.open(file) as image:
        stored = str(image.tile[0][3]) if image.tile else ""
        # "BGR;16" is five or six bits a channel
        deep = ";16" in stored and "BGR" not in stored and image.mode in ("RGB", "RGBA", "LA")
        return DEEP if deep else str(image.mode)
