from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional

from bob.catalog import Catalog
from bob.datasets import (
    RetrievalData,
    ShiftData,
    characters,
    digits,
    font_digits,
    glyphs,
    load_dataset,
    rendered,
)
from bob.datasets.characters import UNSEEN, drawing_names
from bob.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from bob.errors import BobError

DIGITS = "0123456789"
SHIPPED = {"font_digits": font_digits, "characters": characters}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return digits.load().test.images[:24]


@pytest.fixture(scope="module")
def unseen(catalog: Catalog) -> RetrievalData:
    data = load_dataset(catalog.dataset("characters"))
    assert isinstance(data, RetrievalData)
    return data


def shift_data(catalog: Catalog, key: str) -> ShiftData:
    data = load_dataset(catalog.dataset(key))
    assert isinstance(data, ShiftData)
    return data


def test_corrupted_digits_are_the_catalog_s(catalog: Catalog) -> None:
    data = shift_data(catalog, "digits_c")
    source = digits.load()
    assert torch.equal(data.train.images, source.train.images)
    assert torch.equal(data.test.images, source.test.images)
    assert [shift.name for shift in data.shifts] == [
        f"{name}/{severity}" for name in CORRUPTIONS for severity in SEVERITIES
    ]
    for shift in data.shifts:
        assert shift.name == f"{shift.group}/{shift.severity}"
        assert len(shift.split) == 150
        assert torch.equal(shift.split.targets, source.test.targets[::4])
    assert shift_data(catalog, "digits_c") is data


def test_printed_digits_are_the_catalog_s(catalog: Catalog) -> None:
    data = shift_data(catalog, "font_digits")
    assert [len(data.train), len(data.test)] == [1200, 360]
    assert data.train.targets.bincount().tolist() == [120] * 10
    seen = {image.tobytes() for image in data.train.images.numpy()}
    assert not any(image.tobytes() in seen for image in data.test.images.numpy())
    handwritten, typefaces = data.shifts
    assert torch.equal(handwritten.split.images, digits.load().test.images)
    assert typefaces.split.targets.bincount().tolist() == [32] * 10
    for split in (data.train, data.test, typefaces.split):
        assert split.images.shape[1:] == (3, 32, 32)
        # White ink on black, as the handwritten ones are.
        assert split.images.float().mean() == pytest.approx(80, abs=25)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_grows_with_severity_and_repeats(name: str, images: torch.Tensor) -> None:
    before = images.clone()
    changes = []
    for severity in SEVERITIES:
        spoilt = corrupt(images, name, severity)
        assert spoilt.shape == images.shape
        assert spoilt.dtype == torch.uint8
        assert torch.equal(spoilt, corrupt(images, name, severity))
        changes.append((spoilt.float() - images.float()).abs().mean().item())
    assert torch.equal(images, before)
    assert changes[0] > 0
    assert all(less < more for less, more in pairwise(changes)), changes


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(32, 32), (224, 224), (40, 26)])
def test_corruption_takes_one_image_of_any_size(
    name: str, size: tuple[int, int], images: torch.Tensor
) -> None:
    image = functional.interpolate(images[:1].float(), size, mode="bilinear").to(torch.uint8)
    for severity in (1, 5):
        spoilt = corrupt(image, name, severity)
        assert spoilt.shape == image.shape
        assert not torch.equal(spoilt, image)


@pytest.mark.parametrize(
    "name", ["gaussian_blur", "motion_blur", "pixelate", "rotation", "translation", "occlusion"]
)
def test_lengths_follow_the_image(name: str, images: torch.Tensor) -> None:
    """A corrupted enlargement looks like the enlarged corruption."""
    large = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    spoilt = functional.avg_pool2d(corrupt(large, name, 3).float(), 4)
    change = (corrupt(images, name, 3).float() - images.float()).abs().mean()
    gap = (corrupt(images, name, 3).float() - spoilt).abs().mean()
    assert gap < 0.35 * change


def test_seeds_draw_other_noise(images: torch.Tensor) -> None:
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "elastic", "occlusion"):
        assert not torch.equal(corrupt(images, name, 3), corrupt(images, name, 3, seed=1))


def test_unknown_corruption_and_severity(images: torch.Tensor) -> None:
    with pytest.raises(BobError, match="Did you mean 'motion_blur'"):
        corrupt(images, "motionblur", 1)
    with pytest.raises(BobError, match=r"Known: gaussian_noise, .*occlusion"):
        corrupt(images, "fog", 1)
    for severity in (0, 6):
        with pytest.raises(BobError, match=f"Severity {severity} .* expected 1 to 5"):
            corrupt(images, "jpeg", severity)


def test_unseen_characters_are_unseen_and_unlike(unseen: RetrievalData) -> None:
    assert len(set(UNSEEN)) == len(UNSEEN) == 60
    assert not set(UNSEEN) & set(glyphs.CHARACTERS + DIGITS)
    assert unseen.class_names == tuple(UNSEEN)

    def straight(character: str, face: str) -> np.ndarray:
        canvas = Image.new("L", (96, 96))
        font = glyphs._font(face, 48)
        ImageDraw.Draw(canvas).text((48, 48), character, 255, font, "mm", stroke_width=1)
        ink = glyphs._to_counts(canvas).ravel().astype(np.float32)
        return ink / np.linalg.norm(ink)

    everything = UNSEEN + glyphs.CHARACTERS + DIGITS
    ink = np.stack(
        [[straight(character, face) for face in glyphs.FACES] for character in everything]
    )
    alike = np.einsum("afp,bfp->ab", ink[: len(UNSEEN)], ink) / len(glyphs.FACES)
    np.fill_diagonal(alike, 0)
    assert alike.max() < 0.9


def test_every_face_holds_the_unseen_characters() -> None:
    from matplotlib.ft2font import FT2Font

    for face in glyphs.FACES:
        holds = FT2Font(str(glyphs.font_directory() / face)).get_charmap()
        assert {ord(character) for character in UNSEEN} <= set(holds)


def test_queries_are_the_first_fifth_of_each_class_by_name(unseen: RetrievalData) -> None:
    names = drawing_names()
    assert len(set(names)) == 1440
    assert names[0] == "U+00C6/0-Book-Sans"
    shipped = rendered.read("characters", ("all",)).split("all")
    for label in range(60):
        own = sorted(range(24 * label, 24 * label + 24), key=names.__getitem__)
        expected = {image.numpy().tobytes() for image in shipped.images[own[: 24 // 5]]}
        queries = unseen.queries.images[unseen.queries.targets == label]
        assert len(queries) == 4
        assert {image.numpy().tobytes() for image in queries} == expected
        assert int((unseen.database.targets == label).sum()) == 20
    first = sorted(name.split("/")[1] for name in names[:24])[:4]
    assert first == ["0-Bold-Sans", "0-Bold-SansMono", "0-Bold-Serif", "0-BoldItalic-Serif"]


def test_relevance_is_disjoint_and_complete(unseen: RetrievalData) -> None:
    assert unseen.graded
    assert len(unseen.relevance) == len(unseen.queries) == 240
    sizes = set()
    for target, relevance in zip(unseen.queries.targets, unseen.relevance, strict=True):
        parts = (relevance.easy, relevance.hard, relevance.junk)
        assert all(part.dtype == torch.int64 for part in parts)
        assert all((part.diff() > 0).all() for part in parts)
        same = (unseen.database.targets == target).nonzero().flatten()
        assert torch.equal(torch.cat(parts).sort().values, same)
        assert len(relevance.junk) == 1
        sizes.add((len(relevance.easy), len(relevance.hard)))
    # Of a class's 20 drawings in the database 14 are sans and 6 serif.
    assert sizes == {(13, 6), (5, 14)}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_drawings_are_what_this_code_draws(name: str) -> None:
    fresh = SHIPPED[name].draw()
    shipped = rendered.read(name, tuple(fresh))
    if shipped.freetype != rendered.freetype_version():
        pytest.skip(f"drawn by FreeType {shipped.freetype}, here is {rendered.freetype_version()}")
    for part, (counts, labels) in fresh.items():
        assert np.array_equal(labels, shipped.parts[part][1])
        assert np.abs(counts.astype(int) - shipped.parts[part][0]).mean() < 0.05


def test_shipped_files_are_small() -> None:
    sizes = [path.stat().st_size for path in rendered.FOLDER.glob("*.npz")]
    assert len(sizes) == 2
    assert sum(sizes) < 200_000


def test_damaged_or_missing_drawings_name_file_and_remedy(tmp_path: Path) -> None:
    whole = (rendered.FOLDER / "characters.npz").read_bytes()
    path = tmp_path / "characters.npz"

    def message() -> str:
        with pytest.raises(BobError) as caught:
            rendered.read("characters", ("all",), folder=tmp_path)
        assert caught.value.kind == "dataset"
        assert str(path) in str(caught.value)
        assert "reinstall battle-of-backbones" in str(caught.value)
        return str(caught.value)

    assert "is missing" in message()
    middle = math.ceil(len(whole) / 3)
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 9])
    for damaged in (b"", b"nonsense", whole[:-99], flipped + whole[middle + 9 :]):
        path.write_bytes(damaged)
        assert "is damaged" in message()
    counts = np.zeros((3, 8, 8), np.uint8)
    for wrong in (
        {"all_counts": counts},
        {"all_counts": counts + 17, "all_labels": np.zeros(3, np.int64)},
        {"all_counts": counts[:2], "all_labels": np.zeros(3, np.int64)},
        {"all_counts": counts, "all_labels": np.zeros(3)},
        {"all_counts": np.array([None]), "all_labels": np.zeros(1, np.int64)},
    ):
        np.savez(path, freetype="1", **wrong)
        assert "is damaged" in message()
