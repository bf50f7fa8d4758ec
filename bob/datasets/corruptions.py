"""Common corruptions of images in five severities, after D. Hendrycks and T. Dietterich (2019).

Every corruption takes RGB images of any size. Lengths (blur, shifts, cells, waves) are fractions
of the shorter side, so that a severity looks the same at 32 and at 224 pixels. A seed draws the
same directions, places and waves for every severity; only their strength differs.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch
from PIL import Image
from scipy.signal import fftconvolve
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from bob.errors import BobError

# Raise whenever pixels change for the same severity table.
RECIPE_VERSION = "1"
SEVERITIES = (1, 2, 3, 4, 5)

Corrupt = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Corruption:
    """One way to spoil an image.

    Attributes:
        group: Kind of corruption: noise, blur, light, digital, geometry or occlusion.
        apply: Maps float images ``(n, 3, h, w)`` in 0..1, a level and a generator to images of the
            same shape; values outside 0..1 are clipped afterwards.
        levels: What ``apply`` takes at severities 1 to 5.
    """

    group: str
    apply: Corrupt
    levels: tuple[float, float, float, float, float]


def corrupt(images: torch.Tensor, name: str, severity: int, *, seed: int = 0) -> torch.Tensor:
    """Corrupt images.

    Args:
        images: RGB, uint8, ``(n, 3, h, w)``; left as they are.
        name: Key of ``CORRUPTIONS``.
        severity: 1 (mild) to 5 (hard).
        seed: Seed of what is random.

    Returns:
        Images of the same shape and type.

    Raises:
        BobError: The name is unknown or the severity out of range.
    """
    if name not in CORRUPTIONS:
        near = get_close_matches(name, CORRUPTIONS, n=1)
        offer = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(CORRUPTIONS)}."
        raise BobError(f"Unknown corruption {name!r}. {offer}")
    if severity not in SEVERITIES:
        raise BobError(f"Severity {severity} of {name!r} is out of range; expected 1 to 5.")
    corruption = CORRUPTIONS[name]
    generator = torch.Generator().manual_seed(seed)
    pixels = images.to(torch.float32).div_(255.0)
    spoilt = corruption.apply(pixels, corruption.levels[severity - 1], generator)
    return spoilt.clamp(0, 1).mul_(255).round_().to(torch.uint8)


def _side(images: torch.Tensor) -> int:
    side: int = min(images.shape[-2:])
    return side


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _signs(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1.0


def gaussian_noise(
    images: torch.Tensor, deviation: float, generator: torch.Generator
) -> torch.Tensor:
    """Add normal noise to every pixel and channel."""
    return images + deviation * torch.randn(images.shape, generator=generator)


def shot_noise(images: torch.Tensor, scale: float, generator: torch.Generator) -> torch.Tensor:
    """Count photons: Poisson noise where white is ``1 / scale`` of them."""
    return torch.poisson(images / scale, generator=generator) * scale


def impulse_noise(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Turn a share of the values fully on or off (salt and pepper)."""
    draw = torch.rand(images.shape, generator=generator)
    return torch.where(draw < share, (draw < share / 2).float(), images)


def gaussian_blur(images: torch.Tensor, width: float, generator: torch.Generator) -> torch.Tensor:
    """Blur with a Gaussian whose deviation is a fraction of the side."""
    sigma = width * _side(images)
    taps = 2 * min(math.ceil(3 * sigma), _side(images) - 1) + 1
    # Rows and columns apart: the same blur for a hundredth of the work on large images.
    for kernel in ([taps, 1], [1, taps]):
        images = transforms.gaussian_blur(images, kernel, [sigma, sigma])
    return images


def motion_blur(images: torch.Tensor, length: float, generator: torch.Generator) -> torch.Tensor:
    """Smear each image along a line of its own direction; the length is a fraction of the side."""
    half = length * _side(images) / 2
    reach = math.ceil(half)
    steps = torch.arange(-reach, reach + 1.0)
    angle = _uniform(len(images), 0, math.pi, generator).view(-1, 1, 1)
    along = steps * angle.cos() + steps.view(-1, 1) * angle.sin()
    across = steps.view(-1, 1) * angle.cos() - steps * angle.sin()
    kernel = (1 - across.abs()).clamp(0, 1) * (half + 0.5 - along.abs()).clamp(0, 1)
    kernel /= kernel.sum((1, 2), keepdim=True)
    padded = functional.pad(images, [reach] * 4, mode="replicate")
    # Through Fourier space, whose cost does not grow with the line's length.
    smeared = fftconvolve(padded.numpy(), kernel[:, None].numpy(), mode="valid", axes=(2, 3))
    return torch.from_numpy(smeared)


def brightness(images: torch.Tensor, amount: float, generator: torch.Generator) -> torch.Tensor:
    """Add light; what was bright is clipped."""
    return images + amount


def contrast(images: torch.Tensor, kept: float, generator: torch.Generator) -> torch.Tensor:
    """Fade towards each image's mean grey; ``kept`` is the share of contrast left."""
    faded: torch.Tensor = transforms.adjust_contrast(images, kept)
    return faded


def pixelate(images: torch.Tensor, cell: float, generator: torch.Generator) -> torch.Tensor:
    """Average over square cells whose side is a fraction of the image's."""
    height, width = images.shape[-2:]
    size = cell * _side(images)
    small = [max(1, round(height / size)), max(1, round(width / size))]
    coarse = functional.interpolate(images, small, mode="area")
    return functional.interpolate(coarse, (height, width), mode="nearest-exact")


def jpeg(images: torch.Tensor, loss: float, generator: torch.Generator) -> torch.Tensor:
    """Store as JPEG of quality ``100 - loss`` and read again."""
    decoded = np.empty((len(images), *images.shape[-2:], 3), np.uint8)
    pixels = images.mul(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    for image, out in zip(pixels, decoded, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(100 - loss))
        out[:] = np.asarray(Image.open(file))
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)


def _resample(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Black where the grid leaves the image: digits touch the edge, and copies of it are ink."""
    return functional.grid_sample(images, grid, align_corners=False)


def _identity(images: torch.Tensor) -> torch.Tensor:
    """Affine maps ``(n, 2, 3)`` that change nothing."""
    return torch.eye(2, 3).repeat(len(images), 1, 1)


def _affine(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return _resample(images, grid)


def rotation(images: torch.Tensor, degrees: float, generator: torch.Generator) -> torch.Tensor:
    """Turn each image to one side or the other."""
    height, width = images.shape[-2:]
    angle = _signs(len(images), generator) * math.radians(degrees)
    maps = _identity(images)
    maps[:, 0, 0] = maps[:, 1, 1] = angle.cos()
    maps[:, 0, 1] = -angle.sin() * height / width
    maps[:, 1, 0] = angle.sin() * width / height
    return _affine(images, maps)


def translation(images: torch.Tensor, distance: float, generator: torch.Generator) -> torch.Tensor:
    """Shift each image in a direction of its own by a fraction of the side."""
    height, width = images.shape[-2:]
    angle = _uniform(len(images), 0, 2 * math.pi, generator)
    maps = _identity(images)
    maps[:, 0, 2] = angle.cos() * 2 * distance * _side(images) / width
    maps[:, 1, 2] = angle.sin() * 2 * distance * _side(images) / height
    return _affine(images, maps)


def elastic(images: torch.Tensor, distance: float, generator: torch.Generator) -> torch.Tensor:
    """Warp by smooth random waves that shift pixels by about a fraction of the side."""
    height, width = images.shape[-2:]
    knots = torch.randn(len(images), 2, 5, 5, generator=generator)
    waves = functional.interpolate(knots, (height, width), mode="bicubic", align_corners=True)
    scale = torch.tensor([_side(images) / width, _side(images) / height]) * 2 * distance
    still = functional.affine_grid(_identity(images), list(images.shape), align_corners=False)
    return _resample(images, still + waves.permute(0, 2, 3, 1) * scale)


def occlusion(images: torch.Tensor, width: float, generator: torch.Generator) -> torch.Tensor:
    """Cover a square at a random place with mid-grey; its side is a fraction of the image's."""
    spans = []
    for extent in images.shape[-2:]:
        centre = _uniform(len(images), 0.2, 0.8, generator) * extent
        distance = (torch.arange(extent) + 0.5 - centre[:, None]).abs()
        spans.append(distance < width * _side(images) / 2)
    covered = spans[0][:, None, :, None] & spans[1][:, None, None, :]
    return torch.where(covered, 0.5, images)


# Calibrated on handwritten digits of 32 x 32 pixels, with linear probes of the micro backbones.
CORRUPTIONS = {
    "gaussian_noise": Corruption("noise", gaussian_noise, (0.05, 0.1, 0.18, 0.28, 0.42)),
    "shot_noise": Corruption("noise", shot_noise, (0.01, 0.03, 0.07, 0.16, 0.5)),
    "impulse_noise": Corruption("noise", impulse_noise, (0.01, 0.03, 0.07, 0.13, 0.22)),
    "gaussian_blur": Corruption("blur", gaussian_blur, (0.03, 0.045, 0.065, 0.09, 0.12)),
    "motion_blur": Corruption("blur", motion_blur, (0.12, 0.22, 0.32, 0.43, 0.55)),
    "brightness": Corruption("light", brightness, (0.1, 0.2, 0.32, 0.46, 0.6)),
    "contrast": Corruption("light", contrast, (0.8, 0.68, 0.57, 0.46, 0.36)),
    "pixelate": Corruption("digital", pixelate, (0.0667, 0.091, 0.143, 0.2, 0.25)),
    "jpeg": Corruption("digital", jpeg, (75, 90, 95, 97, 99)),
    "rotation": Corruption("geometry", rotation, (8, 16, 24, 34, 45)),
    "translation": Corruption("geometry", translation, (0.03, 0.07, 0.12, 0.17, 0.23)),
    "elastic": Corruption("geometry", elastic, (0.02, 0.035, 0.05, 0.07, 0.1)),
    "occlusion": Corruption("occlusion", occlusion, (0.15, 0.25, 0.35, 0.45, 0.55)),
}
