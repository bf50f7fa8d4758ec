"""What lies behind digits, and how they stand out from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from bob.datasets import scenes
from bob.datasets.photographs import NAMES, photographs
from bob.errors import BobError
from bob.hashing import digest_of_file


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


def test_scenes_are_exact_and_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOB_SCENES", str(tmp_path))
    scenes.load.cache_clear()
    data = scenes.load(train=6, test=4)
    assert (len(data.train), len(data.test)) == (6, 4)
    for index in range(6):
        sample = data.train.sample(index)
        assert sample.target.masks is not None
        assert 1 <= len(sample.target) <= scenes.MOST
        for box, mask in zip(sample.target.boxes.int(), sample.target.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    pictures = sorted(tmp_path.rglob("*.png"))
    before = [digest_of_file(path) for path in pictures]
    assert len(pictures) == 10
    scenes.load.cache_clear()
    assert scenes.load(train=6, test=4).sha256 == data.sha256
    assert [digest_of_file(path) for path in pictures] == before
    scenes.load.cache_clear()
    monkeypatch.setenv("BOB_SCENES", str(pictures[0]))
    with pytest.raises(BobError, match="BOB_SCENES"):
        scenes.load(train=6, test=4)
    scenes.load.cache_clear()
