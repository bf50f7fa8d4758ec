"""Images of any mode as RGB of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bob.catalog.value_range import ValueRange

WHOLE = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of Pillow that hold whole numbers of more than 8 bits."""

FLOATS = ("F",)

WORDS = ValueRange(0, 65535)
BYTES = ValueRange(0, 255)
UNITS = ValueRange(0, 1)


@dataclass(frozen=True)
class Ranges:
    """What is black and white in images of more than 8 bits.

    Attributes:
        whole: Of whole numbers.
        floats: Of floating-point values.
        wide: Whether the dataset has such images.
    """

    whole: ValueRange = WORDS
    floats: ValueRange = UNITS
    wide: bool = False


def rgb(image: Image.Image, ranges: Ranges | None = None) -> Image.Image:
    """Any mode as RGB: more than 8 bits scaled to 8, transparency over white.

    Args:
        image: Of any mode of Pillow.
        ranges: What is black and white; the whole of 16 bits, and 0 to 1, unless given.
    """
    if image.mode in (*WHOLE, *FLOATS):
        known = ranges or Ranges()
        chosen = known.floats if image.mode in FLOATS else known.whole
        values = np.asarray(image).astype(np.float64)
        values = np.where(np.isfinite(values), values, chosen.low)
        spread = chosen.high - chosen.low or 1.0
        scaled = np.clip((values - chosen.low) / spread * 255, 0, 255).round().astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        whole = image.convert("RGBA")
        canvas = Image.new("RGBA", whole.size, (255, 255, 255, 255))
        return Image.alpha_composite(canvas, whole).convert("RGB")
    return image.convert("RGB")
