"""Pictures that annotations name: where they lie, which way up, missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bob.catalog.coco_folder import coco_facts
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import load_coco
from bob.errors import BobError
from tests.coco_parts import both, content, everywhere, write


def test_missing_images_are_counted_and_the_first_named(tmp_path: Path) -> None:
    data = content()
    data["images"] += [
        {"id": 10 + i, "file_name": f"gone/{i}.png", "height": 16, "width": 20} for i in range(4)
    ]
    file = write(tmp_path, content())
    file.write_text(json.dumps(data))
    with pytest.raises(BobError) as caught:
        CocoSplit.read(file, tmp_path / "train")
    assert "4 of 6 images are not in" in str(caught.value)
    assert "gone/0.png (id 10), gone/1.png (id 11), gone/2.png (id 12) and 1 more" in str(
        caught.value
    )


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_damaged_images_are_named(tmp_path: Path, damage: str) -> None:
    file = write(tmp_path, content())
    image = tmp_path / "train" / "a.jpg"
    if damage == "missing":
        image.unlink()
    else:
        image.write_bytes(b"" if damage == "empty" else image.read_bytes()[:300])
    with pytest.raises(BobError, match=r"a\.jpg.*\(id 3\)"):
        CocoSplit.read(file, tmp_path / "train").sample(0)


def test_an_image_that_lies_on_its_side_by_exif_is_turned(tmp_path: Path) -> None:
    file = write(tmp_path, content())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 20)).save(tmp_path / "train" / "a.jpg", exif=exif)
    assert CocoSplit.read(file, tmp_path / "train").sample(0).image.shape == (3, 16, 20)


@pytest.mark.parametrize(
    ("images", "prefix", "how"),
    [
        ("val2017", "val2017/", "relative to"),
        ("images/val2017", "images/val2017/", "relative to"),
        ("images/val2017", "val2017/", "relative to"),
        ("val2017", "val2017\\", "with \\ as / and relative to"),
        ("val2017", "..\\val2017\\", "with \\ as /"),
    ],
)
def test_names_that_one_way_finds_are_read_so(
    tmp_path: Path, images: str, prefix: str, how: str
) -> None:
    both(tmp_path, content(), content())
    (tmp_path / "annotations/instances_val.json").unlink()
    data = content()
    file = write(tmp_path, data, file="annotations/instances_val2017.json", images=images)
    for image in data["images"]:
        image["file_name"] = prefix + image["file_name"]
    file.write_text(json.dumps(data))
    loaded = load_coco(path=str(tmp_path))
    assert coco_facts(tmp_path)[0] == loaded.sha256
    assert f"file_name, such as {prefix}b.png, is read {how}" in loaded.test.remarks[0]
    assert loaded.test.sample(0).image.shape == (3, 16, 20)
    assert loaded.test.part([1]).sample(0).image.shape == (3, 16, 20)
    assert loaded.test.path(0).is_file()


def test_names_that_nothing_or_two_ways_find_are_refused(tmp_path: Path) -> None:
    data = content()
    for image in data["images"]:
        image["file_name"] = "val/" + image["file_name"]
    both(tmp_path, content(), data)
    for where in ("annotations/val", "nothing"):
        (tmp_path / where).mkdir()
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (20, 16)).save(tmp_path / "annotations/val" / name)
    text = everywhere(tmp_path)
    assert f"Looked for {tmp_path / 'val' / 'val' / 'b.png'}. It could be " in text
    assert "write file_name relative to" in text
    data["images"][0]["file_name"] = "C:\\mine\\b.png"
    both(tmp_path, content(), data)
    assert "2 of 2 images are not in" in everywhere(tmp_path)


def test_exchanged_height_and_width_are_told_before_training(tmp_path: Path) -> None:
    data = content()
    for image in data["images"]:
        image |= {"height": 20, "width": 16}
    both(tmp_path, data, content())
    with pytest.raises(BobError) as caught:
        load_coco(path=str(tmp_path))
    assert "2 of 2 images looked at: height and width are exchanged" in str(caught.value)
    assert "instances_train.json: image " in str(caught.value)
    exif = Image.Exif()
    exif[0x0112] = 8
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (20, 16)).save(tmp_path / "train" / name, exif=exif)
    assert load_coco(path=str(tmp_path)).train.sample(0).image.shape == (3, 20, 16)


@pytest.mark.parametrize(
    ("orientation", "side", "told"),
    [(1, 20, False), (2, 20, True), (3, 20, True), (4, 20, True), (6, 20, False), (6, 16, True),
     (1, 16, False)],
)  # fmt: skip
def test_orientations_that_the_size_cannot_tell_are_told(
    tmp_path: Path, orientation: int, side: int, told: bool
) -> None:
    data = content()
    for image in data["images"]:
        image["width"] = side
    both(tmp_path, data, data)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (side, 16)).save(tmp_path / "val" / name)
        Image.new("RGB", (side, 16)).save(tmp_path / "train" / name)
    Image.new("RGB", (side, 16)).save(tmp_path / "val" / "a.jpg", exif=exif)
    loaded = load_coco(path=str(tmp_path))
    assert loaded.train.remarks == ()
    assert loaded.test.remarks == told * (
        "instances_val.json: 1 of 2 images looked at have an EXIF orientation that their entries "
        "cannot confirm; annotations are taken to be of the stored pixels",
    )
