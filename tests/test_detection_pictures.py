"""Pictures of detection and precision-recall curves, on the scores module's crafted scenes."""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bob.artifacts.detections import detection_picture, per_class_csv, pr_picture
from bob.case import Case
from bob.datasets import scenes
from bob.datasets.coco import CocoSplit
from bob.datasets.instances import Target
from bob.detection.evaluate import chance_bound, evaluate, match
from bob.detection.masks import encode
from bob.detection.records import Detections
from tests.test_detection_scores import (
    LIMITS,
    Made,
    found,
    guessed,
    make,
    perfect,
    pycocotools_scores,
    random_box,
)


def split_of(
    folder: Path,
    sizes: list[tuple[int, int]],
    rows: list[list[tuple[int, list[int]]]],
    *,
    names: tuple[str, str] = ("c2", "c7"),
) -> CocoSplit:
    """Objects as full boxes: class and corners for every image."""
    images, annotations = [], []
    for place, ((height, width), row) in enumerate(zip(sizes, rows, strict=True)):
        Image.new("RGB", (width, height), (40, 60, 90)).save(folder / f"{place}.png")
        name = f"{place}.png"
        images.append({"id": place + 1, "file_name": name, "height": height, "width": width})
        for label, (x0, y0, x1, y1) in row:
            plane = np.zeros((height, width), bool)
            plane[y0:y1, x0:x1] = True
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": place + 1,
                    "category_id": (2, 7)[label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(plane.sum()),
                    "iscrowd": 0,
                    "segmentation": scenes.run_lengths(plane),
                }
            )
    categories = [{"id": key, "name": name} for key, name in zip((2, 7), names, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return CocoSplit(content, folder, source=folder / "made.json")


def boxes_only(split: CocoSplit) -> list[Detections]:
    """What is there, as boxes with full masks."""
    rows = []
    for index in range(len(split)):
        target = split.sample(index).target
        assert target.masks is not None
        rows.append(
            Detections(target.boxes, torch.ones(len(target)), target.labels, encode(target.masks))
        )
    return rows


def agree(made: Made, rows: list[Detections], limits: tuple[float, float], most: int) -> None:
    own = evaluate(made.split, rows, masks=True, area_limits=limits, max_detections=most).metrics
    wanted = {
        key: value
        for kind in ("box", "mask")
        for key, value in pycocotools_scores(made, rows, kind, limits, most).items()
    }
    assert dict(own) == pytest.approx(wanted, abs=1e-6)


def test_more_than_the_most_detections_of_a_class_are_cut(tmp_path: Path) -> None:
    made, stream = make(tmp_path, 3), np.random.default_rng(0)
    rows = guessed(made, 3)
    label = made.truth[3][0][0]
    boxes = [random_box(stream) for _ in range(130)]
    scores = (stream.integers(1, 10, 130) / 10).tolist()
    rows[3] = found([*boxes, made.truth[3][0][1]], [*scores, 0.05], [label] * 131)
    before = copy.deepcopy(made.split.dataset)
    agree(made, rows, LIMITS, 100)
    agree(made, rows, LIMITS, 131)
    assert made.split.dataset == before
    # The only sure hit comes last, so that it counts only where it is not cut.
    least, most = (
        evaluate(made.split, rows, masks=False, max_detections=count).metrics["box_ar"]
        for count in (100, 131)
    )
    assert least < most


def test_areas_of_boxes_and_masks_are_not_mixed(tmp_path: Path) -> None:
    """A thin mask in a big box is a big box and a small mask."""
    split = split_of(tmp_path, [(48, 48)], [[(0, [0, 0, 48, 48])]])
    line = torch.eye(48).bool()
    split.dataset["annotations"][0] |= {
        "area": 48,
        "segmentation": scenes.run_lengths(line.numpy()),
    }
    rows = [
        Detections(
            torch.tensor([[0.0, 0, 48, 48], [5, 5, 42, 42]]),
            torch.tensor([0.5, 0.9]),
            torch.tensor([0, 0]),
            encode(torch.stack([line, line.roll(3, 0)])),
        )
    ]
    agree(Made(split, []), rows, (100.0, 1000.0), 100)
    metrics = evaluate(split, rows, masks=True, area_limits=(100.0, 1000.0)).metrics
    # The false box is large, so that small objects do not count it; the false mask is small.
    assert metrics["box_ap_small"] == pytest.approx(1.0)
    assert metrics["mask_ap_small"] == pytest.approx(0.5)
    assert "box_ap_large" not in metrics


def test_an_annotation_may_have_the_id_zero(tmp_path: Path) -> None:
    made = make(tmp_path, 1)
    for number, annotation in enumerate(made.split.dataset["annotations"]):
        annotation["id"] = number
    metrics = evaluate(made.split, perfect(made), masks=True).metrics
    assert list(metrics.values()) == pytest.approx([1.0] * len(metrics))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["boxes", "scores"])
def test_every_metric_is_nan_where_anything_is_not_finite(
    tmp_path: Path, tiny_case: Case, where: str, value: float
) -> None:
    made = make(tmp_path, 4)
    rows = perfect(made)
    names = set(evaluate(made.split, rows, masks=True, area_limits=LIMITS).metrics)
    getattr(rows[1], where).view(-1)[0] = value
    scores = evaluate(made.split, rows, masks=True, area_limits=LIMITS)
    assert set(scores.metrics) == names
    assert all(math.isnan(value) for value in scores.metrics.values())
    assert not scores.curves
    assert chance_bound(made.split, rows) == 0.0
    assert len(per_class_csv(scores).splitlines()) == 5
    decoded(detection_picture(tiny_case, made.split, rows, masks=True, score_text="nan"))
    decoded(pr_picture(tiny_case, scores.curves, scores.metrics))


def test_curves_average_to_the_metrics(tmp_path: Path) -> None:
    made = make(tmp_path, 5)
    scores = evaluate(made.split, guessed(made, 5), masks=True)
    for kind, curve in scores.curves.items():
        assert curve.recalls.tolist() == pytest.approx([step / 100 for step in range(101)])
        assert curve.by_class.shape == (4, 101)
        assert np.isnan(curve.by_class[3]).all()
        assert curve.mean.mean() == pytest.approx(scores.metrics[f"{kind}_ap"])
        assert curve.at50.mean() == pytest.approx(scores.metrics[f"{kind}_ap50"])
        assert curve.at75.mean() == pytest.approx(scores.metrics[f"{kind}_ap75"])
        np.testing.assert_allclose(np.nanmean(curve.by_class, axis=0), curve.at50)
    known = [class_score.box_ap for class_score in scores.per_class if class_score.instances]
    assert sum(known) / len(known) == pytest.approx(scores.metrics["box_ap"])
    boxes = evaluate(made.split, guessed(made, 5), masks=False)
    assert boxes.per_class[0].mask_ap is None
    assert per_class_csv(boxes).decode().splitlines()[1].endswith(",")


def test_no_image_keeps_its_own_detections_by_chance(tmp_path: Path) -> None:
    box = [8, 8, 40, 40]
    split = split_of(tmp_path, [(48, 48)] * 2, [[(0, box)], [(1, box)]])
    rows = boxes_only(split)
    assert evaluate(split, rows, masks=False).metrics["box_ap"] == pytest.approx(1.0)
    assert chance_bound(split, rows) == 0.0


def test_chance_scales_boxes_to_the_other_image(tmp_path: Path) -> None:
    split = split_of(
        tmp_path, [(64, 64), (480, 640)], [[(0, [8, 8, 32, 32])], [(0, [80, 60, 320, 240])]]
    )
    rows = boxes_only(split)
    assert chance_bound(split, rows, draws=1) == pytest.approx(1.0)
    assert chance_bound(split, rows[:1]) == 0.0


def test_chance_is_no_less_with_more_draws(tmp_path: Path) -> None:
    made = make(tmp_path, 6)
    bounds = [chance_bound(made.split, perfect(made), draws=draws) for draws in (1, 5, 20)]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize(
    ("rows", "right", "missed"),
    [
        ([], (), (0, 1)),
        ([([0, 0, 10, 10], 0.5, 1), ([20, 20, 30, 30], 0.9, 2)], (True, True), ()),
        ([([0, 0, 10, 10], 0.5, 2)], (False,), (0, 1)),
        ([([0, 0, 10, 8], 0.5, 1), ([0, 0, 10, 10], 0.5, 1)], (True, False), (1,)),
        ([([0, 0, 10, 5], 0.5, 1)], (True,), (1,)),
        ([([0, 0, 10, 4], 0.5, 1)], (False,), (0, 1)),
        ([([0, 0, 10, 10], 0.1, 1)], (False,), (0, 1)),
    ],
    ids=["none", "both", "class", "tie", "half", "less", "weak"],
)
def test_matches(
    rows: list[tuple[list[int], float, int]], right: tuple[bool, ...], missed: tuple[int, ...]
) -> None:
    target = Target(torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([1, 2]))
    boxes, scores, labels = ([row[i] for row in rows] for i in range(3))
    marks = match(target, found(boxes, scores, labels), min_score=0.2)
    assert (marks.right, marks.missed) == (right, missed)


def decoded(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as opened:
        assert opened.format == "PNG"
        return np.array(opened.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("size", "height"), [((64, 64), 476), ((480, 640), 376), ((640, 120), 476)]
)
@pytest.mark.parametrize("masks", [False, True])
def test_pictures_of_any_size(
    tmp_path: Path, tiny_case: Case, size: tuple[int, int], height: int, masks: bool
) -> None:
    box = [10, 10, size[1] // 2, size[0] // 2]
    split = split_of(tmp_path, [size] * 14, [[(0, box)]] * 14)
    rows = boxes_only(split)
    picture = detection_picture(tiny_case, split, rows, masks=masks, score_text="AP")
    assert decoded(picture).shape == (height, 1248, 3)


@pytest.mark.parametrize(
    "names", [("$10_$20", "\\frac{$"), ("a\nb", "日本\x1b[31m"), ("x" * 3000, "%s")]
)
def test_class_names_are_drawn_as_they_are(
    tmp_path: Path, tiny_case: Case, names: tuple[str, str]
) -> None:
    split = split_of(
        tmp_path, [(64, 64)] * 2, [[(0, [2, 20, 50, 40]), (1, [5, 45, 60, 60])]] * 2, names=names
    )
    missed = [found([], [], []), boxes_only(split)[1]]
    picture = detection_picture(tiny_case, split, missed, masks=False, score_text="AP $1$")
    assert decoded(picture).shape == (200 + 8 + 60, 1248, 3)


def test_the_worst_image_comes_first(tmp_path: Path, tiny_case: Case) -> None:
    split = split_of(tmp_path, [(64, 64)] * 6, [[(0, [10, 10, 50, 40])]] * 6)
    rows = boxes_only(split)
    rows[4] = found([], [], [])
    pixels = decoded(detection_picture(tiny_case, split, rows, masks=False, score_text="AP"))
    red = (np.abs(pixels - (0xEF, 0x44, 0x44)) < 30).all(axis=2)
    green = (np.abs(pixels - (0x22, 0xC5, 0x5E)) < 30).all(axis=2)
    assert 0 < np.nonzero(red)[1].max() < 208 < np.nonzero(green)[1].min()
