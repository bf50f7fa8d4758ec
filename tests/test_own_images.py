"""A user's own images through real tasks: any mode and size, few or unreadable ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bob.catalog import Catalog, parse_dataset
from bob.datasets import ClassificationData, load_dataset
from bob.plan import Plan, Selection
from bob.protocols.finetune import FinetuneRecipe
from bob.training.data import train_batches
from tests.photos import COLOURS, picture, run_task, touch, write_photos


def write_odd_modes(root: Path) -> int:
    """One image of each mode and size that people have; returns how many cannot be read."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        image = picture(colour, len(name))
        image.convert("L").save(root / name / "grey.png")
        image.convert("CMYK").save(root / name / "print.jpg")
        image.convert("P").save(root / name / "palette.gif")
        image.convert("1").save(root / name / "fax.tiff")
        deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Image.fromarray(deep).save(root / name / "deep.png")
        image.convert("RGBA").save(root / name / "clear.webp", lossless=True)
        exif = image.getexif()
        exif[274] = 6
        image.save(root / name / "turned.JPG", exif=exif)
        Image.new("RGB", (1, 1), colour).save(root / name / "dot.bmp")
    whole = (root / "red" / "turned.JPG").read_bytes()
    (root / "red" / "turned.JPG").write_bytes(whole[: len(whole) // 2])
    return 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["finetune", "linear_probe", "linear_probe_paper", "knn", "low_shot"]
)
def test_every_task_takes_a_small_folder_of_odd_modes(
    task: str, tmp_path: Path, catalog: Catalog
) -> None:
    write_odd_modes(tmp_path / "photos")
    result = run_task(task, f"folder:{tmp_path / 'photos'}", catalog)
    assert result.failure is None
    assert result.classes == 3
    assert result.test_size == 6
    assert 0 <= (result.score or 0) <= 1
    assert any("red/turned.JPG (OSError" in text for text in result.remarks)
    assert any("6 test images make a coarse score" in text for text in result.remarks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["finetune", "linear_probe", "linear_probe_paper", "knn", "low_shot"]
)
def test_two_classes_and_three_images_are_enough(
    task: str, tmp_path: Path, catalog: Catalog
) -> None:
    write_photos(tmp_path, 2, classes=("red",))
    write_photos(tmp_path, 1, classes=("blue",))
    result = run_task(task, f"folder:{tmp_path}", catalog)
    assert result.failure is None
    assert result.score in (0.0, 1.0)
    assert result.test_size == 1
    assert any("1 test image makes a coarse score" in text for text in result.remarks)


def test_mixed_images_come_in_pairs(tmp_path: Path, catalog: Catalog) -> None:
    from bob.backbones import build_backbone

    write_photos(tmp_path, 4, classes=("red",))
    write_photos(tmp_path, 5, classes=("blue",))
    data = load_dataset(parse_dataset(f"folder:{tmp_path}", catalog))
    assert isinstance(data, ClassificationData)
    assert len(data.train) == 7
    recipe = FinetuneRecipe(batch_size=64, image_size=32)
    backbone = build_backbone(catalog.backbone("resnet_micro_random"), image_size=32)
    batches = train_batches(
        data.train, recipe, backbone, device=torch.device("cpu"), workers=0, seed=0
    )
    ((images, targets),) = list(batches)
    assert len(images) == len(targets) == 6


def spoil(folder: Path, count: int) -> None:
    for path in sorted(folder.iterdir())[:count]:
        path.write_bytes(path.read_bytes()[:100])


def write_two_hundred(root: Path) -> None:
    write_photos(root / "train", 100, classes=("red", "blue"))
    write_photos(root / "test", 30, first=500, classes=("red", "blue"))


def test_one_unreadable_image_of_two_hundred_is_told(tmp_path: Path, catalog: Catalog) -> None:
    write_two_hundred(tmp_path)
    whole = run_task("knn", f"folder:{tmp_path}", catalog)
    spoil(tmp_path / "train" / "red", 1)
    result = run_task("knn", f"folder:{tmp_path}", catalog)
    assert result.failure is None
    assert result.score == pytest.approx(whole.score, abs=0.02)
    (told,) = [text for text in result.remarks if "cannot be read" in text]
    assert told.startswith("1 of 200 images cannot be read: ")
    assert str(tmp_path / "train" / "red" / "000.png") in told


def test_three_unreadable_images_of_two_hundred_fail_the_case(
    tmp_path: Path, catalog: Catalog
) -> None:
    write_two_hundred(tmp_path)
    spoil(tmp_path / "train" / "blue", 3)
    result = run_task("knn", f"folder:{tmp_path}", catalog)
    assert result.score is None
    assert result.failure is not None
    assert result.failure.kind == "dataset"
    assert "3 of 200 images cannot be read" in result.failure.message
    for number in range(3):
        assert str(tmp_path / "train" / "blue" / f"{number:03d}.png") in result.failure.message
    assert "restore the files, or take them out" in result.failure.message


def test_a_majority_guess_is_told_as_one(tmp_path: Path, catalog: Catalog) -> None:
    """Noise in two classes, nine to one: the score is high and says nothing."""
    rng = np.random.default_rng(0)
    for name, count in (("common", 90), ("rare", 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            noise = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{number}.png")
    result = run_task("knn", f"folder:{tmp_path}", catalog)
    assert any("always naming the class of most test images" in text for text in result.remarks)


def test_released_classifiers_are_not_read_on_own_classes(tmp_path: Path) -> None:
    from bob.catalog import load_catalog

    extra = tmp_path / "released.yaml"
    extra.write_text(
        "scales:\n  known:\n    tasks:\n      eval_released: {datasets: [digits]}\n"
        "      knn: {datasets: [digits]}\n"
    )
    touch(tmp_path / "photos", *(f"{kind}/{n}.png" for kind in "ab" for n in range(5)))
    own = Selection("known", ("vit_micro_random",), datasets=(f"folder:{tmp_path / 'photos'}",))
    plan = Plan(load_catalog([extra]), own)
    assert [case.task for case in plan.all_cases()] == ["knn"]
