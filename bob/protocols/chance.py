"""What a score without information reaches, and how surely a score has to beat it."""

from __future__ import annotations

CHANCE_ALPHA = 0.001
"""Chance that a backbone without information passes for one that has some."""

CHANCE_BOUND = "chance_bound"
"""Metric by which a protocol says what features without information stay below, where that is not
the binomial bound of guessing classes."""


def guessing_bound(classes: int, images: int) -> float:
    """Share of images that guesses get right no more of, but for ``CHANCE_ALPHA``.

    Seeds add nothing to the images: each guesses on the same ones. The mean of seeds spreads no
    more than one of them, and as much where all guess alike, so that its bound is one seed's.

    Args:
        classes: Among which a guess falls; a score that masks the others counts those left.
        images: Test images; the bound of none is the chance itself.
    """
    if not images:
        return 1 / classes
    from scipy.special import bdtr  # scipy.stats.binom.ppf, without importing all of scipy.stats

    fewest, most = -1, images
    while most - fewest > 1:
        middle = (fewest + most) // 2
        enough = bdtr(middle, images, 1 / classes) >= 1 - CHANCE_ALPHA
        fewest, most = (fewest, middle) if enough else (middle, most)
    return most / images
