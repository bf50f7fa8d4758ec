"""Handwritten digits under common corruptions: the source's own test images, spoilt."""

from __future__ import annotations

from functools import lru_cache

from bob.datasets import digits
from bob.datasets.base import Shift, ShiftData, Split
from bob.datasets.corruptions import CORRUPTIONS, RECIPE_VERSION, SEVERITIES, corrupt
from bob.hashing import digest_of


@lru_cache(maxsize=2)
def load(*, stride: int = 4) -> ShiftData:
    """Load the digits and corrupt every ``stride``-th test image in each way and severity.

    The digest covers the digits, the severity tables and ``RECIPE_VERSION`` rather than corrupted
    pixels, which may differ by rounding between versions of the libraries that make them.

    Args:
        stride: Take every so-manieth test image, so that all writers are among them.

    Returns:
        Ten classes of 32 x 32 RGB images; shifts ``<corruption>/<severity>`` grouped by corruption.
        Tensors are shared within the process.
    """
    source = digits.load()
    assert isinstance(source.test, Split)
    clean = Split(source.test.images[::stride], source.test.targets[::stride])
    levels = {name: corruption.levels for name, corruption in CORRUPTIONS.items()}
    return ShiftData(
        sha256=digest_of([source.sha256, RECIPE_VERSION, stride, levels], length=64),
        class_names=source.class_names,
        train=source.train,
        test=source.test,
        shifts=tuple(
            Shift(
                name=f"{name}/{severity}",
                split=Split(corrupt(clean.images, name, severity), clean.targets),
                group=name,
                severity=severity,
                step=stride,
            )
            for name in CORRUPTIONS
            for severity in SEVERITIES
        ),
    )
