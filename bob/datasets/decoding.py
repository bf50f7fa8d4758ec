"""Image files as Pillow decodes them, whatever stands beside their pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image, ImageOps

from bob.datasets.damaged_metadata import may_be_mended, without_metadata
from bob.errors import first_line
from bob.regular_files import open_regular

DEEP = "RGB;16"
"""Sixteen bits a channel, in colour or beside transparency: Pillow decodes the upper eight."""

_NOTE = "bob note"
_MOST_MENDED = 2**28
_JPEG = b"\xff\xd8\xff"
_FRAMED = (b"GIF8", b"II", b"MM", b"RIFF")

_Result = TypeVar("_Result")


def opened(file: Path | BinaryIO) -> Image.Image:
    """A decoded regular file, upright as its EXIF says.

    Where EXIF or XMP cannot be understood, the image is left as it is stored; where metadata of a
    PNG or AVIF file keep it from being decoded, they are left out; see ``noted``.
    """

    def decoded(source: BinaryIO) -> Image.Image:
        with Image.open(source) as image:
            image.load()
            return upright(image)

    with _stream(file) as stream:
        image, trouble = _in_spite_of_metadata(stream, decoded)
    if trouble:
        image.info[_NOTE] = "; ".join(filter(None, (trouble, noted(image))))
    return image


def _stream(file: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return open_regular(file) if isinstance(file, Path) else nullcontext(file)


def _in_spite_of_metadata(
    file: BinaryIO, read: Callable[[BinaryIO], _Result]
) -> tuple[_Result, str]:
    """What ``read`` finds in a file, and which metadata had to be left out for it."""
    try:
        return read(file), ""
    except Exception as error:  # decoders of damaged files raise whatever they like
        file.seek(0)
        if not may_be_mended(file.read(16)):
            raise
        file.seek(0)
        content = file.read(_MOST_MENDED)
        for mended, dropped in without_metadata(content):
            with suppress(Exception):
                return read(io.BytesIO(mended)), (
                    f"damaged metadata were left out ({dropped}): {type(error).__name__}: "
                    f"{first_line(error)}"
                )
        raise


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
    with _stream(file) as stream:
        if isinstance(file, Path):
            if stream.read(len(_JPEG)) == _JPEG:
                return "RGB"
            stream.seek(0)
        return _in_spite_of_metadata(stream, _mode)[0]


def _mode(file: BinaryIO) -> str:
    with Image.open(file) as image:
        stored = str(image.tile[0][3]) if image.tile else ""
        # "BGR;16" is five or six bits a channel
        deep = ";16" in stored and "BGR" not in stored and image.mode in ("RGB", "RGBA", "LA")
        return DEEP if deep else str(image.mode)


def has_more_frames(file: Path) -> bool:
    """Whether a TIFF, GIF or WebP file holds more pages or frames than the first."""
    try:
        with open_regular(file) as stream:
            if not stream.read(4).startswith(_FRAMED):
                return False
            stream.seek(0)
            with Image.open(stream) as image:
                image.seek(1)
                return True
    except Exception:  # there is no second one, or none that can be found
        return False
