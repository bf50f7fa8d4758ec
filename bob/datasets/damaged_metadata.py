"""Image files without the metadata that a decoder stumbles over."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"tRNS",)
_MOST_NAMED = 8
_AVIF_EXIF = re.compile(rb"(infe[\x02\x03].{7,9})Exif", re.DOTALL)
"""The entry of a HEIF file that calls one of its items EXIF."""


def may_be_mended(head: bytes) -> bool:
    """Whether a file that begins so is of a format whose metadata can be left out."""
    return head.startswith(_PNG) or head[4:12] in (b"ftypavif", b"ftypavis")


def without_metadata(content: bytes) -> Iterator[tuple[bytes, str]]:
    """The same pixels with ever less beside them, and what was left out.

    Of PNG files first the ancillary chunks whose checksum is wrong, then all but transparency; of
    AVIF files EXIF. Nothing for other formats, or where nothing can be left out.

    Args:
        content: Bytes of an image file.
    """
    if content.startswith(_PNG):
        chunks = list(_chunks(content))
        beside = [chunk[4:5].islower() and chunk[4:8] not in _PIXELS for chunk in chunks]
        wrong = [out and not _sound(chunk) for chunk, out in zip(chunks, beside, strict=True)]
        for leave_out in (wrong, beside):
            if any(leave_out):
                kept = [chunk for chunk, out in zip(chunks, leave_out, strict=True) if not out]
                dropped = [chunk for chunk, out in zip(chunks, leave_out, strict=True) if out]
                names = sorted({chunk[4:8].decode("latin-1") for chunk in dropped})[:_MOST_NAMED]
                yield _PNG + b"".join(kept), ", ".join(names)
    elif content[4:12] in (b"ftypavif", b"ftypavis"):
        mended, count = _AVIF_EXIF.subn(rb"\1skip", content)
        if count:
            yield mended, "Exif"


def _chunks(content: bytes) -> Iterator[bytes]:
    start = len(_PNG)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        yield content[start:end]
        start = end


def _sound(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
