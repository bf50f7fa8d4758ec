"""COCO annotations: labels, boxes, masks and images as they are read."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faster_coco_eval.core import mask as coco_mask

from bob.datasets import coco, scenes
from bob.datasets.coco import CocoSplit
from bob.errors import BobError
from tests.coco_parts import SQUARE, change, content, split, write


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


def test_masks_are_not_asked_for_where_they_are_not_wanted(tmp_path: Path) -> None:
    data = content()
    for annotation in data["annotations"]:
        del annotation["segmentation"]
    assert split(tmp_path, data, masks=False).sample(0).target.masks is None


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
