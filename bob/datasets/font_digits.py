"""Printed digits as the source, handwriting and other typefaces as the shifts.

The source is drawn like the handwritten digits were made, in the twelve DejaVu faces, so that only
the hand that drew them differs. ``handwritten`` is the whole test split of ``bob.datasets.digits``;
``typefaces`` is digits in STIX and Computer Modern faces, which no pretraining of the micro
backbones saw either.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from bob.datasets import digits
from bob.datasets.base import Shift, ShiftData
from bob.datasets.glyphs import render
from bob.datasets.rendered import Part, read

DIGITS = "0123456789"
TYPEFACES = (
    "STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf",
    "cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf",
)  # fmt: skip
PARTS = ("train", "test", "typefaces")


def draw() -> dict[str, Part]:
    """Draw every part anew, as ``scripts/render_glyphs.py`` ships them."""
    return {
        "train": render(DIGITS, variants=10, seed=10),
        "test": render(DIGITS, variants=3, seed=11),
        "typefaces": render(DIGITS, variants=4, seed=12, faces=TYPEFACES),
    }


@lru_cache(maxsize=1)
def load() -> ShiftData:
    """Load the digits.

    Returns:
        Ten classes of 32 x 32 RGB images with the shifts ``handwritten`` and ``typefaces``. Tensors
        are shared within the process.

    Raises:
        BobError: The shipped file is missing or damaged.
    """
    rendered = read("font_digits", PARTS)
    handwritten = digits.load()
    return ShiftData(
        sha256=hashlib.sha256((rendered.sha256 + handwritten.sha256).encode()).hexdigest(),
        class_names=handwritten.class_names,
        train=rendered.split("train"),
        test=rendered.split("test"),
        shifts=(
            Shift(name="handwritten", split=handwritten.test, group="handwritten"),
            Shift(name="typefaces", split=rendered.split("typefaces"), group="typefaces"),
        ),
    )
