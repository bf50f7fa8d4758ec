"""Whether stored images are of the size that their entries say, told before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bob.errors import BobError
from bob.regular_files import open_regular

LOOKED_AT = 256
"""Images whose heads are read, evenly spread over a split; the others are met when decoded."""

_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
_SAME_SIZE = (2, 3, 4)


def check_sizes(
    paths: Sequence[Path], keys: Sequence[int], sizes: Sequence[tuple[int, int]], source: Path
) -> tuple[str, ...]:
    """Refuse entries whose height and width are not the image's.

    An image may be of its entry's size as it is stored, or turned as its EXIF says. What cannot be
    read is left to whoever decodes it.

    Args:
        paths: Of the images.
        keys: Their ids.
        sizes: Height and width that their entries say.
        source: The annotation file.

    Returns:
        How many images EXIF would turn or mirror without the entry's size telling whether the
        annotations are of the turned image.

    Raises:
        BobError: Names the first such image and how many there are.
    """
    places = range(0, len(paths), max(1, -(-len(paths) // LOOKED_AT)))
    wrong, unsure = [], 0
    for place in places:
        size, orientation = _stored(paths[place])
        if size is None:
            continue
        square = size[0] == size[1]
        turned = orientation in _ON_ITS_SIDE
        if sizes[place] != size and not (turned and sizes[place] == size[::-1]):
            wrong.append((place, size))
        unsure += orientation in _SAME_SIZE or (turned and square)
    if not wrong:
        return _unconfirmed(unsure, len(places), source)
    place, size = wrong[0]
    text = wrong_size(paths[place], keys[place], size, sizes[place])
    if len(places) > 1:
        text += f". So it is with {len(wrong)} of {len(places)} images looked at"
    if all(size == sizes[place][::-1] for place, size in wrong):
        text += ": height and width are exchanged"
    raise BobError(f"{source}: {text}.", kind="dataset")


def wrong_size(path: Path, key: int, size: tuple[int, int], entry: tuple[int, int]) -> str:
    """Words for an image of another height and width than its entry says."""
    return (
        f"image {path} (id {key}) is {size[0]} pixels high and {size[1]} wide; its entry says "
        f"{entry[0]} and {entry[1]}. Boxes would be off: correct the entry"
    )


def _unconfirmed(unsure: int, looked_at: int, source: Path) -> tuple[str, ...]:
    if not unsure:
        return ()
    return (
        f"{source.name}: {unsure} of {looked_at} images looked at have an EXIF orientation that "
        "their entries cannot confirm; annotations are taken to be of the stored pixels",
    )


def _stored(path: Path) -> tuple[tuple[int, int] | None, int | None]:
    """Height and width as stored, none where the head cannot be read; and EXIF's orientation."""
    try:
        with open_regular(path) as stream, Image.open(stream) as image:
            size = (image.height, image.width)
    except Exception:  # decoders of damaged files raise whatever they like
        return None, None
    try:
        with open_regular(path) as stream, Image.open(stream) as image:
            return size, image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata turn nothing
        return size, None
