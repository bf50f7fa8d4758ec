"""Annotation files that would train on nothing or give a wrong score are refused beforehand."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco_mask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bob.catalog.coco_boxes import check_boxes
from bob.catalog.coco_folder import coco_facts
from bob.catalog.coco_outlines import outline, runs_of
from bob.datasets import scenes
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import load_coco
from bob.detection.evaluate import evaluate
from bob.detection.masks import encode
from bob.detection.records import Detections
from bob.errors import BobError
from tests.test_coco_data import change, content, write

HEIGHT, WIDTH = 480, 640
Box = list[float]
Edit = Callable[[dict[str, Any]], None]


def photographs(
    count: int, *, scale: float = 0.1, masks: bool = False, area: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Boxes as photographs have them: log-normal sizes, anywhere, cut at the border."""
    stream = random.Random(seed)
    annotations = []
    for key in range(1, count + 1):
        sides = [max(2.0, stream.lognormvariate(0, 0.8) * scale * side) for side in (WIDTH, HEIGHT)]
        centre = [stream.uniform(0, WIDTH), stream.uniform(0, HEIGHT)]
        x0, y0 = (max(0.0, c - side / 2) for c, side in zip(centre, sides, strict=True))
        x1, y1 = (
            min(float(most), c + side / 2)
            for c, side, most in zip(centre, sides, (WIDTH, HEIGHT), strict=True)
        )
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        diamond = [x, y0, x1, y, x, y1, x0, y]
        annotations.append(
            {
                "id": key,
                "image_id": (key + 6) // 7,
                "category_id": 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                **({"segmentation": [diamond]} if masks else {}),
                **({"area": (x1 - x0) * (y1 - y0) / (1 + masks)} if area else {}),
            }
        )
    images = [
        {"id": key, "file_name": f"{key}.jpg", "height": HEIGHT, "width": WIDTH}
        for key in range(1, (count + 6) // 7 + 1)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }


FORMS: dict[str, tuple[Callable[[Box], Box], str]] = {
    "corners": (
        lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]],
        "They look like corners x0, y0, x1, y1: write x0, y0, x1 - x0, y1 - y0.",
    ),
    "centres": (
        lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]],
        "They look like centres cx, cy, width, height: write cx - width / 2, cy - height / 2, ",
    ),
    "normalised": (
        lambda b: [b[0] / WIDTH, b[1] / HEIGHT, b[2] / WIDTH, b[3] / HEIGHT],
        "They look normalised: multiply x and width by the image's width, y and height by its",
    ),
    "rows first": (
        lambda b: [b[1], b[0], b[3], b[2]],
        "They look like y, x, height, width: write x, y, width, height.",
    ),
}


def of_form(data: dict[str, Any], form: str) -> dict[str, Any]:
    written = FORMS[form][0]
    rows = [{**row, "bbox": written(row["bbox"])} for row in data["annotations"]]
    return {**data, "annotations": rows}


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(BobError) as caught:
        check_boxes(data, Path("instances_val.json"))
    assert caught.value.kind == "dataset"
    return str(caught.value)


@pytest.mark.parametrize("count", [1, 3, 30, 700])
@pytest.mark.parametrize("scale", [0.003, 0.02, 0.1, 0.4, 2.0])
@pytest.mark.parametrize(("masks", "area"), [(False, False), (False, True), (True, True)])
def test_sound_boxes_pass_without_a_word(count: int, scale: float, masks: bool, area: bool) -> None:
    for seed in range(3):
        data = photographs(count, scale=scale, masks=masks, area=area, seed=seed)
        assert check_boxes(data, Path("instances_val.json")) == ()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.1, 0.4])
def test_boxes_alone_of_another_form_are_refused(form: str, scale: float) -> None:
    for seed in range(3):
        text = refusal(of_form(photographs(150, scale=scale, seed=seed), form))
        assert text.startswith("instances_val.json: ")
        assert " of 150 boxes " in text
        assert "such as annotation " in text
        assert FORMS[form][1] in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [3, 40])
def test_masks_tell_the_form_of_a_few_boxes(form: str, count: int) -> None:
    for seed in range(3):
        text = refusal(of_form(photographs(count, masks=True, area=True, seed=seed), form))
        assert FORMS[form][1] in text


def test_area_tells_corners_where_none_sticks_out() -> None:
    data = photographs(1, area=True)
    data["annotations"][0] |= {"bbox": [10, 20, 50, 80], "area": 2400}
    assert FORMS["corners"][1] in refusal(data)


@pytest.mark.parametrize("form", ["corners", "centres"])
def test_normalised_boxes_of_another_form_besides(form: str) -> None:
    data = of_form(of_form(photographs(150, scale=0.3), form), "normalised")
    text = refusal(data)
    assert FORMS["normalised"][1] in text
    assert f"They look like {form} " in text


PERCENT = "They look like percent of the image, 0 to 100: multiply x and width by the image's width"


def rescaled(data: dict[str, Any], across: float, down: float) -> dict[str, Any]:
    """Boxes of which x and width, y and height are multiplied."""
    rows = [
        {**row, "bbox": [v * f for v, f in zip(row["bbox"], (across, down) * 2, strict=True)]}
        for row in data["annotations"]
    ]
    return {**data, "annotations": rows}


@pytest.mark.parametrize("form", ["", "corners", "centres"])
@pytest.mark.parametrize("area", [False, True])
def test_boxes_in_percent_are_refused(form: str, area: bool) -> None:
    for seed in range(3):
        sound = photographs(150, scale=0.3, area=area, seed=seed)
        data = rescaled(of_form(sound, form) if form else sound, 100 / WIDTH, 100 / HEIGHT)
        text = refusal(data)
        assert "150 of 150 boxes lie within 0..100, such as annotation 1: bbox [" in text
        assert PERCENT in text
        assert (f"They look like {form} " in text) == bool(form)


def test_boxes_of_a_smaller_picture_are_told() -> None:
    for share in (0.5, 0.05):
        data = rescaled(photographs(150, scale=0.3), share, share)
        remark = check_boxes(data, Path("instances_val.json"))[0]
        assert remark.startswith(
            "instances_val.json: 150 of 150 boxes lie in the upper left quarter of their images, "
            "as boxes in percent or of a smaller picture do, such as annotation "
        )
    for image in data["images"][:3]:
        image |= {"height": 40, "width": 50}
    remark = check_boxes(data, Path("instances_val.json"))[0]
    assert "150 of 150 boxes reach less than half as far as most images, as" in remark


def test_sound_boxes_in_the_upper_left_are_at_most_told() -> None:
    """Marks in a corner, few boxes or images, whole numbers, run lengths, small images."""
    percent = rescaled(photographs(150, scale=0.3), 100 / WIDTH, 100 / HEIGHT)
    marks, whole, masked, crops = (copy.deepcopy(percent) for _ in range(4))
    for place, row in enumerate(marks["annotations"]):
        row["bbox"] = [5.5, 9.25, 85.5 + place % 3, 82.5 + place % 2]
    for row in whole["annotations"]:
        row["bbox"] = [float(max(1, round(value))) for value in row["bbox"]]
    row = masked["annotations"][0]
    plane = np.zeros((HEIGHT, WIDTH), bool)
    row["bbox"] = [10.0, 20.0, 30.0, 40.0]
    plane[20:60, 10:40] = True
    row["segmentation"] = scenes.run_lengths(plane)
    for image in crops["images"]:
        image |= {"height": 100, "width": 100}
    rows = percent["annotations"]
    of_one_image = {**percent, "annotations": [{**row, "image_id": 1} for row in rows]}
    few = {**percent, "annotations": rows[:19]}
    for data in (marks, whole, of_one_image):
        remarks = check_boxes(data, Path("a.json"))
        assert "boxes lie in the upper left quarter" in remarks[0]
    for data in (masked, crops, few):
        assert not any("upper left" in remark for remark in check_boxes(data, Path("a.json")))


def test_the_numbers_of_one_annotation_are_told() -> None:
    data = photographs(2)
    for row, box in zip(data["annotations"], ([300, 200, 500, 400], [400, 90, 620, 300]),
                        strict=True):  # fmt: skip
        row["bbox"] = box
    assert refusal(data) == (
        "instances_val.json: 2 of 2 boxes stick out of their image, such as annotation 1: bbox "
        "[300, 200, 500, 400] in an image 480 high and 640 wide. They look like corners x0, y0, "
        "x1, y1: write x0, y0, x1 - x0, y1 - y0."
    )


def test_objects_annotated_beyond_the_border_are_told_and_pass() -> None:
    """As of people whose hidden parts are guessed: a third of the boxes, on all sides."""
    data = photographs(300)
    for place, row in enumerate(data["annotations"]):
        if place % 3 == 0:
            row["bbox"] = [[-40, 50, 90, 200], [560, 30, 120, 300], [30, 400, 60, 150]][place % 2]
    (remark,) = check_boxes(data, Path("instances_val.json"))
    assert remark.startswith("instances_val.json: 100 of 300 boxes stick out of their image, such")


def test_a_few_odd_boxes_are_told_and_pass() -> None:
    data = photographs(200, masks=True, area=True)
    rows = data["annotations"]
    rows[3]["bbox"][:2] = rows[3]["bbox"][0] / 2, rows[3]["bbox"][1] / 2
    rows[8]["area"] = 1e6
    rows[9] |= {"bbox": [5, 5, 0.4, 9], "area": 3, "segmentation": [[5, 5, 5.4, 5, 5.4, 14]]}
    remarks = check_boxes(data, Path("instances_val.json"))
    assert [remark.partition(", such as annotation ")[0] for remark in remarks] == [
        "instances_val.json: 1 of 200 boxes are apart from their masks (corners "
        + ", ".join(f"{v:g}" for v in outline(rows[3]["segmentation"]).corners) + ")",  # type: ignore[union-attr]
        "instances_val.json: 1 of 200 boxes contradict their area (1e+06)",
        "instances_val.json: 1 of 200 boxes are less than a pixel high or wide",
    ]  # fmt: skip


def test_crowds_are_exempt() -> None:
    data = photographs(20, masks=True, area=True)
    for row in data["annotations"][:15]:
        row |= {"iscrowd": 1, "bbox": [600, 400, 600, 400], "area": 9e6}
    assert check_boxes(data, Path("instances_val.json")) == ()


def test_area_of_another_scale_is_refused() -> None:
    data = photographs(30, area=True)
    for row in data["annotations"]:
        row["area"] *= 4
    text = refusal(data)
    assert "30 of 30 boxes contradict their area (" in text
    assert "computed where it is missing" in text
    for row in data["annotations"]:
        row["area"] = 0
    assert "boxes contradict their area (0)" in refusal(data)


def test_outlines_are_those_of_the_masks_drawn() -> None:
    stream = np.random.default_rng(0)
    for side in (3, 17, 40):
        for _ in range(20):
            plane = np.zeros((side, side + 5), bool)
            top, left = stream.integers(0, side - 1, 2)
            plane[top : top + 9, left : left + 7] = (
                stream.random(plane[top : top + 9, left : left + 7].shape) > 0.5
            )
            rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
            listed = scenes.run_lengths(plane)
            packed = coco_mask.encode(np.asfortranarray(plane.astype(np.uint8)))
            text = {"size": list(packed["size"]), "counts": packed["counts"].decode()}
            assert runs_of(text["counts"]) == listed["counts"]
            for shape in (listed, text):
                found = outline(shape)
                if not len(rows):
                    assert found is None
                    continue
                assert found is not None
                assert found.corners == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                assert found.area == plane.sum()


def test_scenes_of_another_form_never_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOB_SCENES", str(tmp_path))
    scenes.load.cache_clear()
    data = scenes.load(train=12, test=6)
    scenes.load.cache_clear()
    assert data.train.remarks == data.test.remarks == ()
    folder = data.train.source.parents[1]
    assert coco_facts(folder)[1:] == (10, 12, 6, True)
    sound = json.loads(data.test.source.read_text())
    for form, masks in itertools.product(("corners", "centres"), (True, False)):
        data.test.source.write_text(json.dumps(of_form(sound, form)))
        for read in (
            partial(coco_facts, folder),
            partial(load_coco, path=str(folder), masks=masks),
        ):
            with pytest.raises(BobError) as caught:
                read()
            assert str(data.test.source) in str(caught.value)
            assert FORMS[form][1] in str(caught.value)


def test_a_part_of_a_split_is_not_judged_again(tmp_path: Path) -> None:
    data = content()
    good = {**data["annotations"][1], "segmentation": []}
    data["annotations"] = [
        {**good, "id": 1, "image_id": 7, "bbox": [15, 4, 15, 8]},
        {**good, "id": 2, "image_id": 7, "bbox": [30, 4, 5, 8]},
        *({**good, "id": 10 + key} for key in range(200)),
    ]
    whole = CocoSplit.read(write(tmp_path, data), tmp_path / "train", masks=False)
    assert "1 of 202 boxes have no area" in whole.remarks[0]
    assert "of 202 boxes stick out" in whole.remarks[1]
    part = whole.part([whole.image_ids.index(7)])
    assert len(part.sample(0).target) == 1


def both(folder: Path, train: dict[str, Any], test: dict[str, Any]) -> None:
    """A folder of two splits; pictures for what the sound content names."""
    for name, data in (("train", train), ("val", test)):
        file = write(folder, content(), file=f"annotations/instances_{name}.json", images=name)
        file.write_text(json.dumps(data))


def everywhere(folder: Path) -> str:
    """The error of a folder, which a plan and a run give alike."""
    texts = []
    for read in (lambda: coco_facts(folder), lambda: load_coco(path=str(folder))):
        with pytest.raises(BobError) as caught:
            read()
        assert caught.value.kind == "dataset"
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    return texts[0]


CASES: list[tuple[Edit, str]] = [
    (change("annotations", to=[]), "it has no annotation: there is nothing to {purpose}"),
    (change("images", to=[]), "annotation 1 is of an unknown image 3"),
    (change("categories", to=[]), "its list of categories is empty"),
    (change("categories", 0, "name", to="plane"),
     "the category name 'plane' is given 2 times, with ids 90, 5"),
    (change("categories", 0, to={"id": 90, "supercategory": "thing"}),
     "category 90 has no name but None"),
    (change("annotations", 0, "iscrowd", to="0"), "annotation 1: iscrowd is '0'. Write 0 or 1"),
    (change("annotations", 0, "iscrowd", to=False), "annotation 1: iscrowd is False. Write 0 or 1"),
    (change("annotations", 0, "segmentation", to=[[]]), "not [[]]. Write [] where there is no"),
    (change("annotations", 0, "segmentation", to={"size": [20, 16], "counts": [0, 320]}),
     "is of size [20, 16], the image of [16, 20]. Write the height first"),
    (change("annotations", 0, "bbox", to=["4", "4", "8", "8"]),
     "bbox ['4', '4', '8', '8'] is not four finite numbers. Write x, y, width, height, without"),
    (change("annotations", 0, "bbox", to=[4, 4, 8, math.nan]), "annotation 1: bbox [4, 4, 8, nan]"),
    (change("annotations", 0, "area", to=math.inf), "annotation 1: area is inf"),
    (change("annotations", 0, "area", to="64"), "annotation 1: area is '64'"),
    (change("annotations", 0, "category_id", to="90"),
     "of an unknown category '90'; known: 5, 90. Write a category's id, a whole number without"),
    (change("annotations", 0, "image_id", to=3.0),
     "of an unknown image 3.0. Write the image's id, a whole number without quotes or decimal"),
    (change("annotations", 0, "id", to="1"), "Its id is '1': write it without quotes"),
    (change("images", 0, "id", to=7.0), "Its id is 7.0: write it without quotes"),
    (change("annotations", 0, to={"image_id": 3, "segments_info": []}), "These are panoptic seg"),
    (change("annotations", 0, "bbox", to=None), "annotation 1: bbox None is not four finite"),
    (change("images", 0, "file_name", to="a.jpg"),
     "images 7 and 3 have the same file_name a.jpg"),
    (change("images", 0, "file_name", to="./a.jpg"), "have the same file_name"),
    (change("images", 0, "file_name", to=None), "image 7: file_name is None"),
    (change("images", 0, "file_name", to="a\0.jpg"), "image 7: file_name is 'a"),
    (change("images", 0, "height", to=0), "image 7: height and width are (0, 20)"),
    (change("images", 0, "width", to=1e9), "image 7: height and width are (16, 1000000000.0)"),
]  # fmt: skip


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize(("edit", "words"), CASES)
def test_a_plan_and_a_run_refuse_alike(tmp_path: Path, part: str, edit: Edit, words: str) -> None:
    data = {"train": content(), "val": content()}
    edit(data[part])
    both(tmp_path, data["train"], data["val"])
    text = everywhere(tmp_path)
    assert f"instances_{part}.json: " in text or "differ in their categories" in text
    if "differ" not in text:
        purpose = {"train": "learn from", "val": "score on"}[part]
        assert words.format(purpose=purpose) in text


def test_crowds_alone_are_nothing_to_score_on(tmp_path: Path) -> None:
    data = content()
    for row in data["annotations"]:
        row["iscrowd"] = 1
    both(tmp_path, content(), data)
    text = everywhere(tmp_path)
    assert "instances_val.json: all 2 annotations are of crowds: there is nothing to score" in text
    empty = {"images": [], "annotations": [], "categories": content()["categories"]}
    both(tmp_path, empty, content())
    assert "instances_train.json: its list of images is empty" in everywhere(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_are_read_alike(tmp_path: Path, encoding: str) -> None:
    data = content()
    data["categories"][0]["name"] = "Zahnbürste"
    both(tmp_path, data, data)
    before = coco_facts(tmp_path)
    for name in ("train", "val"):
        text = json.dumps(data, ensure_ascii=False)
        (tmp_path / f"annotations/instances_{name}.json").write_bytes(text.encode(encoding))
    assert coco_facts(tmp_path) == before
    assert load_coco(path=str(tmp_path)).class_names == ("plane", "Zahnbürste")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": [' + "1" * 5000 + "]}", "\xff{"])
def test_json_that_python_cannot_hold(tmp_path: Path, text: str) -> None:
    both(tmp_path, content(), content())
    (tmp_path / "annotations/instances_val.json").write_text(text, encoding="latin-1")
    assert "instances_val.json" in everywhere(tmp_path)


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


def test_masks_of_some_annotations_are_told(tmp_path: Path) -> None:
    data = content()
    del data["annotations"][0]["segmentation"]
    both(tmp_path, content(), data)
    *_, masks = coco_facts(tmp_path)
    assert masks is False
    loaded = load_coco(path=str(tmp_path), masks=masks)
    assert loaded.test.remarks == (
        "instances_val.json: 1 of 2 annotations have a mask; as not all do, masks do not count",
    )


def masks_of(boxes: torch.Tensor) -> torch.Tensor:
    planes = torch.zeros(len(boxes), 16, 20, dtype=torch.bool)
    for plane, (x0, y0, x1, y1) in zip(planes, boxes.int().tolist(), strict=True):
        plane[y0:y1, x0:x1] = True
    return planes


def test_a_crowd_without_a_mask_is_its_box_to_scores(tmp_path: Path) -> None:
    data = content()
    data["annotations"][1] |= {"iscrowd": 1, "segmentation": []}
    both(tmp_path, content(), data)
    assert coco_facts(tmp_path)[-1]
    split = load_coco(path=str(tmp_path)).test
    box = torch.tensor([[4.0, 4, 12, 12], [0, 0, 5, 5]])
    shown = Detections(box, torch.ones(2), torch.tensor([1, 0]), encode(masks_of(box)))
    nothing = Detections(box[:0], torch.ones(0), torch.zeros(0, dtype=torch.int64), ())
    found = [shown if key == 3 else nothing for key in split.image_ids]
    scores = evaluate(split, found, masks=True).metrics
    assert (scores["box_ap"], scores["mask_ap"]) == (1, 1)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value within a value."""
    if not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 3, 7, 0.5, 3.0, -7.5, 1e9, 1e300, math.nan, math.inf, 10**400,
     2**63, "", "1", "a.jpg", "../a.jpg", "\0", "\ud800", "x" * 5000, [], {}, [[]], [None],
     [0, 0, 5, 5], [[4, 4, 12, 4, 12, 12]], [["a"] * 6], {"size": [16, 20], "counts": [0, 320]},
     {"size": [16, 20], "counts": "zz!"}, {"size": [16, 20], "counts": "é"},
     {"size": [2**40, 20], "counts": [1]}]
)  # fmt: skip


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_only_bob_errors_escape(data: st.DataObject) -> None:
    sound = content()
    sound["annotations"][1]["segmentation"] = {"size": [16, 20], "counts": [0, 60, 260]}
    sound["annotations"][1]["bbox"] = [0, 0, 4, 16]
    changed = copy.deepcopy(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from([p for p in places(changed) if p]))
        parent = changed
        for step in path:
            parent = parent[step]
        deed = data.draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
        if deed == "remove":
            del parent[last]
        elif deed == "repeat" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        else:
            parent[last] = copy.deepcopy(data.draw(VALUES))
    part, masks = data.draw(st.sampled_from(["train", "val"])), data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        both(folder, *((changed, sound) if part == "train" else (sound, changed)))
        known = _attempt(lambda: coco_facts(folder))
        loaded = _attempt(lambda: load_coco(path=str(folder), masks=masks))
        if loaded is None:
            return
        for split in (loaded.train, loaded.test):
            for index in range(len(split)):
                _attempt(lambda split=split, index=index: split.sample(index))
        if known is not None:
            assert known[0] == loaded.sha256


def _attempt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except BobError:
        return None
