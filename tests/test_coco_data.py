from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from bob.catalog.coco_folder import coco_facts
from bob.catalog.data_root import data_root
from bob.datasets import coco, scenes
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import load_coco, load_official_coco
from bob.datasets.driving import cityscapes_to_coco, load_sim10k_cityscapes, voc_to_coco
from bob.errors import BobError
from bob.hashing import digest_of_file

SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]


def content() -> dict[str, Any]:
    """Two images of 20 x 16 pixels; category ids with a gap."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 16, "width": 20},
            {"id": 3, "file_name": "a.jpg", "height": 16, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [4, 4, 8, 8],
             "segmentation": SQUARE, "area": 64, "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 5, 5],
             "segmentation": [[0, 0, 5, 0, 5, 5]]},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 5, "name": "plane"}],
    }  # fmt: skip


def write(folder: Path, data: dict[str, Any], *, file: str = "annotations/instances_train.json",
          images: str = "train") -> Path:  # fmt: skip
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(data))
    (folder / images).mkdir(parents=True, exist_ok=True)
    for image in data["images"]:
        Image.new("RGB", (20, 16), (10, 200, 30)).save(folder / images / image["file_name"])
    return folder / file


def split(tmp_path: Path, data: dict[str, Any], **options: Any) -> CocoSplit:
    return CocoSplit.read(write(tmp_path, data), tmp_path / "train", **options)


def test_labels_follow_ids_with_gaps_and_images_their_ids(tmp_path: Path) -> None:
    coco_split = split(tmp_path, content())
    assert coco_split.class_names == ("plane", "toothbrush")
    assert coco_split.category_ids == (5, 90)
    assert coco_split.image_ids == (3, 7)
    assert coco_split.annotated == (0,)
    sample = coco_split.sample(0)
    assert sample.image.shape == (3, 16, 20)
    assert sample.target.labels.tolist() == [1, 0]
    assert sample.target.boxes.tolist() == [[4, 4, 12, 12], [0, 0, 5, 5]]
    empty = coco_split.sample(1).target
    assert len(empty) == 0
    assert empty.masks is not None
    assert empty.masks.shape == (0, 16, 20)


def test_polygons_and_both_run_length_forms_give_the_same_mask(tmp_path: Path) -> None:
    compressed = coco_mask.merge(coco_mask.frPyObjects(SQUARE, 16, 20))
    plane = coco_mask.decode(compressed).astype(bool)
    text = compressed["counts"]
    text = text.decode() if isinstance(text, bytes) else text
    data = content()
    data["annotations"] = [
        {"id": key, "image_id": 3, "category_id": 5, "bbox": [4, 4, 8, 8], "segmentation": shape}
        for key, shape in enumerate(
            (SQUARE, {"size": [16, 20], "counts": text}, scenes.run_lengths(plane))
        )
    ]
    masks = split(tmp_path, data).sample(0).target.masks
    assert masks is not None
    assert masks[0].sum() == 64
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


def test_crowds_are_kept_for_scoring_and_not_learnt(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["iscrowd"] = 1
    coco_split = split(tmp_path, data)
    assert coco_split.sample(0).target.labels.tolist() == [0]
    assert len(coco_split.dataset["annotations"]) == 2


def test_boxes_that_stick_out_are_clipped(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0] |= {"bbox": [-3, 4, 40, 8], "area": 320,
                               "segmentation": [[-3, 4, 37, 4, 37, 12, -3, 12]]}  # fmt: skip
    assert split(tmp_path, data).sample(0).target.boxes[0].tolist() == [0, 4, 20, 12]


@pytest.mark.parametrize("box", [[4, 4, 0, 8], [4, 4, -2, 8], [30, 4, 8, 8], [-9, 4, 8, 8]])
def test_boxes_without_area_or_outside(tmp_path: Path, box: list[int]) -> None:
    data = content()
    data["annotations"][0]["bbox"] = box
    with pytest.raises(BobError, match=r"instances_train\.json: 1 of 2 boxes .* annotation 1"):
        split(tmp_path, data)
    good = data["annotations"][1]
    data["annotations"] += [{**good, "id": 10 + i} for i in range(99)]
    coco_split = split(tmp_path, data)
    assert "annotation 1; left out" in coco_split.remarks[0]
    assert len(coco_split.sample(0).target) == 100


def read_all(file: Path) -> None:
    coco_split = CocoSplit.read(file, file.parents[1] / "train")
    for index in range(len(coco_split)):
        coco_split.sample(index)


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change("annotations", 1, "id", to=1), "annotations id 1 is given more than once"),
        (change("images", 1, "id", to=7), "images id 7 is given more than once"),
        (change("annotations", 1, "image_id", to=9), "annotation 2 is of an unknown image 9"),
        (change("annotations", 1, "category_id", to=4), "annotation 2 is of an unknown category 4"),
        (change("annotations", 1, "bbox", to=[1, 2, 3]), "annotation 2: bbox"),
        (change("annotations", 1, "bbox", to=[1, 2, 3, None]), "annotation 2: bbox"),
        (change("annotations", 1, "segmentation", to=None), "annotation 2 has no segmentation"),
        (change("annotations", 1, "segmentation", to=[[1, 2, 3, 4]]), "annotation 2: a polygon"),
        (change("annotations", 1, "segmentation", to={"counts": []}), "annotation 2: its run-"),
        (change("images", 0, "height", to=17), "b.png (id 7) is 16 pixels high and 20 wide"),
        (change("annotations", 0, "segmentation", to={"size": [9, 9], "counts": [81]}),
         "annotation 1: its run-length mask is of size [9, 9]"),
        (change("annotations", 0, "segmentation", to={"size": [16, 20], "counts": [10, 5]}),
         "annotation 1: its segmentation cannot be decoded"),
        (change("annotations", 0, "segmentation", to={"size": [16, 20], "counts": [-1, 321]}),
         "annotation 1: its segmentation cannot be decoded: its counts are not whole numbers"),
        (change("annotations", 0, "segmentation", to={"size": [16, 20], "counts": "zz!"}),
         "annotation 1: its segmentation cannot be decoded"),
        (change("annotations", 0, "segmentation", to={"size": [16, 20], "counts": 5}),
         "annotation 1: its segmentation cannot be decoded: its counts are neither"),
        (change("annotations", 0, "segmentation", to=[[1, 2, 3, 4, 5, float("nan")]]),
         "annotation 1: its segmentation cannot be decoded: a point is not finite"),
        (change("annotations", 0, "segmentation", to=[["a"] * 6]),
         "annotation 1: its segmentation cannot be decoded"),
        (change("annotations", 0, "segmentation", to=5), "annotation 1: a polygon"),
        (change("annotations", 0, "segmentation", to=[[1, 2, 3, 4, 5, 6, 7]]),
         "annotation 1: a polygon"),
        (change("annotations", 0, "bbox", to=[1, 2, 3, float("inf")]), "annotation 1: bbox"),
        (change("annotations", 0, "image_id", to=[3]), "annotation 1 is of an unknown image [3]"),
        (change("annotations", 0, to=3), "an entry of annotations is not an object but 3"),
        (change("images", 0, to=None), "an entry of images is not an object but None"),
        (change("images", 0, "height", to=None), "image 7: height and width are (None, 20)"),
        (change("images", 0, "id", to="7"), "an entry of images has no whole number as id"),
        (change("categories", 1, "id", to=90), "categories id 90 is given more than once"),
    ],
)  # fmt: skip
def test_inconsistent_content_names_file_and_id(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], words: str
) -> None:
    data = content()
    file = write(tmp_path, data)
    edit(data)
    file.write_text(json.dumps(data))
    with pytest.raises(BobError) as caught:
        read_all(file)
    assert "instances_train.json: " in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.kind == "dataset"


def test_missing_area_is_the_mask_s_else_the_box_s(tmp_path: Path) -> None:
    data = content()
    del data["annotations"][0]["area"]
    data["annotations"][0]["bbox"] = [3, 3, 10, 10]
    file = write(tmp_path, data)
    coco_split = CocoSplit(data, tmp_path / "train", source=file)
    first, second = coco_split.dataset["annotations"]
    assert (first["area"], first["iscrowd"]) == (64, 0)
    assert 0 < second["area"] < 25
    assert second["iscrowd"] == 0
    # What was passed in is as it was, or a second split of it would have another digest.
    assert "area" not in data["annotations"][0]
    assert CocoSplit(data, tmp_path / "train", source=file).digest == coco_split.digest
    data["annotations"][0]["segmentation"] = [[1, 2]]
    boxes = CocoSplit(data, tmp_path / "train", source=file, masks=False)
    assert boxes.dataset["annotations"][0]["area"] == 100


def test_small_splits_are_decoded_once_and_travel_without_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco_split = split(tmp_path, content())
    before = len(pickle.dumps(coco_split))
    assert coco_split.sample(0) is coco_split.sample(0)
    assert len(pickle.dumps(coco_split)) == before
    travelled = pickle.loads(pickle.dumps(coco_split)).sample(0)
    assert torch.equal(travelled.image, coco_split.sample(0).image)
    monkeypatch.setattr(coco, "KEPT_BYTES", 0)
    coco_split = split(tmp_path, content())
    assert coco_split.sample(0) is not coco_split.sample(0)


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


def test_masks_are_not_asked_for_where_they_are_not_wanted(tmp_path: Path) -> None:
    data = content()
    for annotation in data["annotations"]:
        del annotation["segmentation"]
    assert split(tmp_path, data, masks=False).sample(0).target.masks is None


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
    ("text", "words"),
    [("{\n1", "instances_train.json:2: not valid JSON"), ("[]", "has no list of images"),
     ('{"images": []}', "has no list of annotations")],
)  # fmt: skip
def test_unreadable_files(tmp_path: Path, text: str, words: str) -> None:
    file = write(tmp_path, content())
    file.write_text(text)
    with pytest.raises(BobError) as caught:
        CocoSplit.read(file, tmp_path / "train")
    assert words in str(caught.value)


LAYOUTS = [
    (("annotations/instances_train2017.json", "train2017"),
     ("annotations/instances_val2017.json", "val2017")),
    (("annotations/instances_train.json", "images/train"),
     ("annotations/instances_val.json", "images/val")),
    (("annotations/instances_train2014.json", "train2014"),
     ("annotations/instances_val2014.json", "val2014")),
    (("annotations/train.json", "train"), ("annotations/val.json", "val")),
    (("annotations/train.json", "images"), ("annotations/val.json", "images")),
    (("train.json", "train"), ("test.json", "test")),
    (("train.json", "images"), ("val.json", "images")),
    (("train/_annotations.coco.json", "train"), ("test/_annotations.coco.json", "test")),
    (("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid")),
]  # fmt: skip


@pytest.mark.parametrize(("train", "test"), LAYOUTS)
def test_layouts(tmp_path: Path, train: tuple[str, str], test: tuple[str, str]) -> None:
    for file, images in (train, test):
        write(tmp_path, content(), file=file, images=images)
    data = load_coco(path=str(tmp_path))
    assert data.train.sample(0).image.shape == (3, 16, 20)
    assert coco_facts(tmp_path) == (data.sha256, 2, len(data.train), 2, True)
    assert len(pickle.loads(pickle.dumps(data.test)).sample(0).target) == 2


def test_val_is_preferred_to_test(tmp_path: Path) -> None:
    for part in ("train", "test", "valid"):
        write(tmp_path, content(), file=f"{part}/_annotations.coco.json", images=part)
    assert load_coco(path=str(tmp_path)).test.folder.name == "valid"


def test_layout_is_found_without_heavy_modules() -> None:
    code = (
        "import sys, bob.catalog.coco_folder\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'faster_coco_eval'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("BOB_DATA", "/data")
    assert data_root() == Path("/data")
    monkeypatch.delenv("BOB_DATA")
    assert data_root() == Path("/cache/bob/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_root() == Path("~/.cache/bob/data").expanduser()


def test_folders_that_are_not_there_or_not_coco(tmp_path: Path) -> None:
    with pytest.raises(BobError, match="No folder") as caught:
        load_coco(path=str(tmp_path / "none"))
    assert caught.value.kind == "unavailable"
    with pytest.raises(BobError, match=r"no train split.*_annotations\.coco\.json"):
        load_coco(path=str(tmp_path))
    write(tmp_path, content())
    combs = content()
    combs["categories"][0]["name"] = "comb"
    write(tmp_path, combs, file="annotations/instances_val.json", images="val")
    with pytest.raises(BobError, match=r"differ in their categories: \(90, 'comb'\)"):
        load_coco(path=str(tmp_path))


def test_missing_public_data_tell_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    with pytest.raises(BobError, match=r"train2017\.zip.*BOB_DATA") as caught:
        load_official_coco()
    assert caught.value.kind == "unavailable"
    with pytest.raises(BobError, match=r"Sim10k is not in .*VOC2012"):
        load_sim10k_cityscapes()
    (tmp_path / "sim10k" / "VOC2012").mkdir(parents=True)
    with pytest.raises(BobError, match=r"Cityscapes is not in .*gtFine_trainvaltest\.zip"):
        load_sim10k_cityscapes()


VOC = """<annotation><filename>{name}.jpg</filename>
<size><width>20</width><height>16</height><depth>3</depth></size>
<object><name>car</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>8</ymax></bndbox>
</object><object><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>
<ymax>2</ymax></bndbox></object></annotation>"""


def driving(root: Path) -> None:
    voc = root / "sim10k" / "VOC2012"
    for part in ("Annotations", "JPEGImages"):
        (voc / part).mkdir(parents=True)
    for name in ("3384645", "3384646"):
        (voc / "Annotations" / f"{name}.xml").write_text(VOC.format(name=name))
        Image.new("RGB", (20, 16)).save(voc / "JPEGImages" / f"{name}.jpg")
    city = root / "cityscapes"
    for part in ("leftImg8bit", "gtFine"):
        (city / part / "val" / "lindau").mkdir(parents=True)
    stem = "lindau_000000_000019"
    Image.new("RGB", (20, 16)).save(
        city / "leftImg8bit" / "val" / "lindau" / f"{stem}_leftImg8bit.png"
    )
    objects = [
        {"label": "car", "polygon": [[2, 3], [12, 3], [12, 9], [2, 9]]},
        {"label": "cargroup", "polygon": [[12, 3], [25, 3], [25, 9], [12, 9]]},
        {"label": "road", "polygon": [[0, 0], [20, 0], [20, 16]]},
    ]
    text = json.dumps({"imgHeight": 16, "imgWidth": 20, "objects": objects})
    (city / "gtFine" / "val" / "lindau" / f"{stem}_gtFine_polygons.json").write_text(text)


def test_sim10k_and_cityscapes_in_their_own_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driving(tmp_path)
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    data = load_sim10k_cityscapes()
    assert (len(data.train), data.test_size, data.test) == (2, 1, None)
    assert data.train.sample(0).target.boxes.tolist() == [[0, 2, 10, 8]]
    cars = data.shifts[0].split
    assert cars.sample(0).target.boxes.tolist() == [[2, 3, 12, 9]]
    crowd = cars.dataset["annotations"][1]
    assert crowd["iscrowd"] == 1
    assert crowd["bbox"] == [12, 3, 8, 6]
    assert coco_mask.decode(crowd["segmentation"]).sum() == 48
    polygons = next((tmp_path / "cityscapes").rglob("*.json"))
    polygons.write_text(polygons.read_text().replace('"car"', '"bus"'))
    with pytest.raises(BobError, match="all 1 annotations are of crowds: there is nothing to sco"):
        load_sim10k_cityscapes()


def test_malformed_driving_annotations_name_the_file(tmp_path: Path) -> None:
    driving(tmp_path)
    broken = tmp_path / "sim10k" / "VOC2012" / "Annotations" / "3384646.xml"
    broken.write_text("<annotation>")
    with pytest.raises(BobError, match=r"3384646\.xml is not a VOC annotation"):
        voc_to_coco(tmp_path / "sim10k" / "VOC2012", classes=("car",))
    polygons = next((tmp_path / "cityscapes" / "gtFine").rglob("*.json"))
    polygons.write_text("{}")
    with pytest.raises(BobError, match=r"polygons\.json is not a Cityscapes annotation"):
        cityscapes_to_coco(tmp_path / "cityscapes", "val")
    car = {"label": "car", "polygon": [[1, 2], [3, 4]]}
    polygons.write_text(json.dumps({"imgHeight": 16, "imgWidth": 20, "objects": [car]}))
    with pytest.raises(BobError, match=r"polygons\.json .* is not three or more points"):
        cityscapes_to_coco(tmp_path / "cityscapes", "val")
    with pytest.raises(BobError, match="holds no"):
        cityscapes_to_coco(tmp_path / "cityscapes", "train")


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
