"""Letters and symbols rendered from the DejaVu faces that matplotlib ships.

The micro backbones are pretrained on these images. No class is a digit, and characters drawn like
one (O, o, I, l, З, з, б, Ч) are left out, so that nothing of the evaluation set is seen before.
Images follow the making of the handwritten digits: a 32 x 32 bitmap, cropped and centred, counted
over 4 x 4 blocks into an 8 x 8 image of 17 grey levels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LATIN = "ABCDEFGHJKLMNPQRSTUVWXYZabdefghijkmnqrtuy"
GREEK = "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπφχψω"
CYRILLIC = "БДЖИЛЦШЩЪЫЭЮЯвджклмцшыэюя"
SYMBOLS = "&@#%?!$€£+=<>~∞∑√∫"
CHARACTERS = LATIN + GREEK + CYRILLIC + SYMBOLS

FACES = tuple(
    f"DejaVu{face}.ttf"
    for face in (
        "Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique",
        "SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique",
        "Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic",
    )
)  # fmt: skip

_CANVAS = 96
_BITMAP = 32


def font_directory() -> Path:
    """Folder of the DejaVu faces inside the installed matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=256)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_directory() / face), size)


def _draw(character: str, face: str, rng: np.random.Generator) -> Image.Image:
    """One character on a square canvas, bent by a random affine map and stroke width."""
    canvas = Image.new("L", (_CANVAS, _CANVAS), 0)
    ImageDraw.Draw(canvas).text(
        (_CANVAS / 2, _CANVAS / 2),
        character,
        fill=255,
        font=_font(face, int(rng.integers(40, 57))),
        anchor="mm",
        stroke_width=int(rng.integers(0, 4)),
    )
    angle = np.deg2rad(rng.uniform(-15, 15))
    shear = rng.uniform(-0.25, 0.25)
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotate @ np.array([[stretch, shear], [0.0, 1.0 / stretch]])
    centre = np.array([_CANVAS / 2, _CANVAS / 2])
    offset = centre - matrix @ centre
    a, b, d, e = (float(value) for value in matrix.ravel())
    return canvas.transform(
        canvas.size,
        Image.Transform.AFFINE,
        (a, b, float(offset[0]), d, e, float(offset[1])),
        resample=Image.Resampling.BILINEAR,
    )


def _to_counts(image: Image.Image) -> NDArray[np.uint8]:
    """Crop to the ink, centre on a 32 x 32 bitmap, count ink over 4 x 4 blocks: (8, 8), 0..16."""
    box = image.getbbox()
    if box is None:
        return np.zeros((8, 8), np.uint8)
    ink = image.crop(box)
    scale = _BITMAP / max(ink.size)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    bitmap = Image.new("L", (_BITMAP, _BITMAP), 0)
    bitmap.paste(
        ink.resize(size, Image.Resampling.BILINEAR),
        ((_BITMAP - size[0]) // 2, (_BITMAP - size[1]) // 2),
    )
    on = np.asarray(bitmap, np.uint8) > 127
    counts: NDArray[np.uint8] = on.reshape(8, 4, 8, 4).sum(axis=(1, 3)).astype(np.uint8)
    return counts


def render(
    characters: str, *, variants: int, seed: int, faces: tuple[str, ...] = FACES
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Render every character in every face.

    Args:
        characters: One class per character, in order.
        variants: Randomly bent drawings per character and face.
        seed: Seed of the bends; the same seed gives the same pixels for one FreeType version.
        faces: File names of the faces to draw with.

    Returns:
        Images of shape ``(n, 8, 8)`` with values 0..16, and labels of shape ``(n,)``, where
        ``n = len(characters) * len(faces) * variants``.
    """
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for label, character in enumerate(characters):
        for face in faces:
            for _ in range(variants):
                images.append(_to_counts(_draw(character, face, rng)))
                labels.append(label)
    return np.stack(images), np.asarray(labels, np.int64)
