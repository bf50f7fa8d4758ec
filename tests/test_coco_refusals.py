"""Annotation files that would train on nothing or give a wrong score are refused beforehand."""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bob.catalog.coco_folder import coco_facts
from bob.datasets.detection import load_coco
from bob.detection.evaluate import evaluate
from bob.detection.masks import encode
from bob.detection.records import Detections
from bob.errors import BobError
from tests.coco_parts import Edit, both, change, content, everywhere

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
