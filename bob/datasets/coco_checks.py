"""Whether stored images are of the size that their entries say, told before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bob.errors import BobError

LOOKED_AT = 256
"""Images whose heads are read, evenly spread over a split; the others are met when decoded."""

_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)


def check_sizes(
    paths: Sequence[Path], keys: Sequence[int], sizes: Sequence[tuple[int, int]], source: Path
) -> None:
    """Refuse entries whose height and width are not the image's.

    An image may be of its entry's size as it is stored, or turned as its EXIF says. What cannot be
    read is left to whoever decodes it.

    Args:
        paths: Of the images.
        keys: Their ids.
        sizes: Height and width that their entries say.
        source: The annotation file.

    Raises:
        BobError: Names the first such image and how many there are.
    """
    places = range(0, len(paths), max(1, -(-len(paths) // LOOKED_AT)))
    wrong = []
    for place in places:
        stored = _stored(paths[place])
        if stored and sizes[place] not in stored:
            wrong.append((place, stored[0]))
    if not wrong:
        return
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


def _stored(path: Path) -> tuple[tuple[int, int], ...]:
    """Height and width as stored, and as turned; nothing where the head cannot be read."""
    try:
        with Image.open(path) as image:
            size = (image.height, image.width)
    except Exception:  # decoders of damaged files raise whatever they like
        return ()
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
    except Exception:  # damaged metadata turn nothing
        turned = False
    return (size, size[::-1]) if turned else (size,)
