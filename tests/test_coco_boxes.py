"""Boxes of another form, scale or unit are refused before they train, and odd ones told."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from bob.catalog.coco_boxes import check_boxes
from bob.catalog.coco_folder import coco_facts
from bob.catalog.coco_outlines import outline, runs_of
from bob.datasets import scenes
from bob.datasets.coco import CocoSplit
from bob.datasets.detection import load_coco
from bob.errors import BobError
from tests.coco_parts import HEIGHT, WIDTH, Box, content, photographs, write

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
