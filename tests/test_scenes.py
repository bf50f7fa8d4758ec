"""What lies behind digits, and how they stand out from it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from bob.datasets import scenes
from bob.datasets.photographs import NAMES, photographs


def test_no_pixel_of_a_photograph_is_trained_and_tested_on() -> None:
    for name, left, right in zip(NAMES, photographs("train"), photographs("val"), strict=True):
        assert left.shape == right.shape == (213, 160)
        whole = np.asarray(load_sample_image(name) @ [0.299, 0.587, 0.114])
        small = whole[:426].reshape(213, 2, 320, 2).mean(axis=(1, 3))
        # rounding of luminance, and of the mean of four
        assert np.abs(np.concatenate([left, right], axis=1) - small).max() < 4


@pytest.mark.parametrize(
    ("ground", "contrast", "brighter", "level"),
    [
        (100, 90, True, 190),
        (100, 90, False, 10),
        (200, 90, True, 110),
        (30, 90, False, 120),
        (100, 200, False, 255),
        (150, 200, True, 0),
    ],
)
def test_ink_stands_out_on_the_side_that_has_room(
    ground: int, contrast: int, brighter: bool, level: int
) -> None:
    assert scenes._level(ground, contrast, brighter) == level


def test_scenes_are_photographs_where_no_digit_is() -> None:
    backgrounds = photographs("val")
    glyphs = scenes.Glyphs(np.full((1, 8, 8), 16, np.uint8), np.array([7]))
    for seed in range(20):
        stream = scenes.Stream(seed)
        ground = scenes._cut(backgrounds[stream.below(len(backgrounds))], stream)
        picture, digits = scenes.draw_scene(glyphs, backgrounds, scenes.Stream(seed))
        inked = np.any([mask for _, mask in digits], axis=0)
        assert (picture == ground)[~inked].all()
        for label, mask in digits:
            assert label == 7
            (level,) = set(picture[mask].tolist())
            assert abs(level - ground[mask].mean()) >= scenes.CONTRAST[0] - 1
