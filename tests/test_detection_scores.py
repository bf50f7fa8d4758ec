from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as reference_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bob.artifacts.detections import detection_picture, per_class_csv, pr_picture
from bob.case import Case
from bob.datasets import scenes
from bob.datasets.coco import CocoSplit
from bob.datasets.instances import Target
from bob.detection.evaluate import (
    chance_bound,
    detections_json,
    evaluate,
    match,
    to_coco_results,
)
from bob.detection.masks import encode
from bob.detection.records import Detections

SIDE = 48
LIMITS = (60.0, 200.0)


@dataclass
class Made:
    split: CocoSplit
    truth: list[list[tuple[int, list[int]]]]


def plane(box: list[int]) -> np.ndarray[Any, Any]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    mask[box[1], box[0]] = False  # no mask is its box
    return mask


def random_box(stream: np.random.Generator) -> list[int]:
    x, y = stream.integers(0, SIDE - 6, 2).tolist()
    w, h = stream.integers(4, 24, 2).tolist()
    return [x, y, min(SIDE, x + w), min(SIDE, y + h)]


def make(tmp_path: Path, seed: int, *, images: int = 12) -> Made:
    """Random ground truth: id gaps, crowds, empty images, a class that is never there."""
    stream = np.random.default_rng(seed)
    truth, annotations = [], []
    for image in range(images):
        here = [(int(stream.integers(0, 3)), random_box(stream)) for _ in range(image % 5)]
        truth.append(here)
        for number, (label, box) in enumerate(here):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 * image,
                    "category_id": (2, 7, 30)[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": int(plane(box).sum()),
                    "iscrowd": int(number == 3),
                    "segmentation": scenes.run_lengths(plane(box)),
                }
            )
    content = {
        "images": [
            {"id": 10 * i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": key, "name": f"c{key}"} for key in (2, 7, 30, 41)],
    }
    for i in range(images):
        Image.new("RGB", (SIDE, SIDE), (i, 60, 90)).save(tmp_path / f"{i}.png")
    return Made(CocoSplit(content, tmp_path, source=tmp_path / "made.json"), truth)


def found(boxes: list[list[int]], scores: list[float], labels: list[int]) -> Detections:
    planes = torch.from_numpy(np.stack([plane(box) for box in boxes])) if boxes else None
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        encode(planes) if planes is not None else (),
    )


def perfect(made: Made) -> list[Detections]:
    rows = []
    for here in made.truth:
        kept = here[:3]
        rows.append(found([b for _, b in kept], [0.9] * len(kept), [c for c, _ in kept]))
    return rows


def guessed(made: Made, seed: int) -> list[Detections]:
    """Moved, mislabelled, doubled and invented boxes with tied scores; some images get none."""
    stream = np.random.default_rng(seed + 100)
    rows = []
    for number, here in enumerate(made.truth):
        boxes, labels = [], []
        for label, box in here * (1 + number % 2):
            x, y = stream.integers(-3, 4, 2).tolist()
            moved = [max(0, box[0] + x), max(0, box[1] + y), min(SIDE, box[2] + x),
                     min(SIDE, box[3] + y)]  # fmt: skip
            boxes.append(moved)
            labels.append(label if stream.random() < 0.8 else int(stream.integers(0, 4)))
        boxes += [random_box(stream) for _ in range(int(stream.integers(0, 4)))]
        labels += stream.integers(0, 4, len(boxes) - len(labels)).tolist()
        scores = (stream.integers(1, 10, len(boxes)) / 10).tolist()
        rows.append(found([], [], []) if number == 4 else found(boxes, scores, labels))
    return rows


def pycocotools_scores(
    made: Made, rows: list[Detections], kind: str, limits: tuple[float, float], most: int
) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(made.split.dataset))
        truth.createIndex()
        iou_type = {"box": "bbox", "mask": "segm"}[kind]
        drop = {"box": "segmentation", "mask": "bbox"}[kind]
        results = [
            {k: v for k, v in result.items() if k != drop}
            for result in to_coco_results(made.split, rows)
        ]
        scored = COCOeval(truth, truth.loadRes(results), iou_type)
        scored.params.maxDets = [most]
        edges = [0, *limits, 1e10]
        scored.params.areaRng = [[0, 1e10], *([edges[i], edges[i + 1]] for i in range(3))]
        scored.evaluate()
        scored.accumulate()
    precision, recall = scored.eval["precision"][..., -1], scored.eval["recall"][..., -1]

    def mean(values: Any) -> float:
        known = values[values > -1]
        return float(known.mean()) if known.size else math.nan

    wanted = {
        f"{kind}_ap": mean(precision[..., 0]),
        f"{kind}_ap50": mean(precision[0, ..., 0]),
        f"{kind}_ap75": mean(precision[5, ..., 0]),
        f"{kind}_ar": mean(recall[..., 0]),
    }
    for place, size in enumerate(("small", "medium", "large"), start=1):
        wanted[f"{kind}_ap_{size}"] = mean(precision[..., place])
    return {key: value for key, value in wanted.items() if not math.isnan(value)}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [LIMITS, (32.0**2, 96.0**2)])
@pytest.mark.parametrize("most", [100, 3])
def test_scores_are_those_of_pycocotools(
    tmp_path: Path, seed: int, limits: tuple[float, float], most: int
) -> None:
    made = make(tmp_path, seed)
    rows = guessed(made, seed)
    own = evaluate(made.split, rows, masks=True, area_limits=limits, max_detections=most).metrics
    for kind in ("box", "mask"):
        wanted = pycocotools_scores(made, rows, kind, limits, most)
        assert {key for key in own if key.startswith(kind)} == set(wanted)
        for key, value in wanted.items():
            assert own[key] == pytest.approx(value, abs=1e-6), key


def test_a_perfect_detector_scores_one_and_a_shuffled_one_near_nothing(tmp_path: Path) -> None:
    made = make(tmp_path, 1, images=40)
    rows = perfect(made)
    metrics = evaluate(made.split, rows, masks=True, area_limits=LIMITS).metrics
    assert all(value == pytest.approx(1.0) for value in metrics.values())
    assert {"box_ap_small", "mask_ap_large", "box_ap75"} <= set(metrics)
    shuffled = rows[7:] + rows[:7]
    score = evaluate(made.split, shuffled, masks=True).metrics["box_ap"]
    assert score < 0.1
    assert chance_bound(made.split, rows) < 0.15
    assert chance_bound(made.split, rows) == chance_bound(made.split, rows)


def test_nothing_found_is_zero_and_what_is_not_finite_is_nan(tmp_path: Path) -> None:
    made = make(tmp_path, 2)
    nothing = [found([], [], [])] * len(made.split)
    metrics = evaluate(made.split, nothing, masks=True, area_limits=LIMITS).metrics
    some = evaluate(made.split, guessed(made, 2), masks=True, area_limits=LIMITS).metrics
    assert set(metrics) == set(some)
    assert set(metrics.values()) == {0.0}
    assert chance_bound(made.split, nothing) == 0.0
    bad = list(nothing)
    bad[0] = found([[1, 1, 9, 9]], [math.nan], [0])
    assert math.isnan(evaluate(made.split, bad, masks=True).metrics["mask_ap"])


def test_classes_are_told_apart(tmp_path: Path) -> None:
    made = make(tmp_path, 3)
    scores = evaluate(made.split, perfect(made), masks=True)
    assert [class_score.name for class_score in scores.per_class] == ["c2", "c7", "c30", "c41"]
    assert scores.per_class[3].instances == 0
    assert math.isnan(scores.per_class[3].box_ap)
    total = sum(1 for here in made.truth for _ in here[:3])
    assert sum(class_score.instances for class_score in scores.per_class) == total
    table = per_class_csv(scores).decode().splitlines()
    assert table[0] == "class,instances,box_ap,mask_ap"
    assert len(table) == 5


def test_results_carry_the_datasets_own_ids(tmp_path: Path) -> None:
    made = make(tmp_path, 3)
    rows = json.loads(detections_json(made.split, perfect(made)))
    assert {row["category_id"] for row in rows} <= {2, 7, 30}
    assert rows[0]["image_id"] == 10
    x, y, w, h = rows[0]["bbox"]
    box = made.truth[1][0][1]
    assert [x, y, x + w, y + h] == box
    assert reference_mask.area(rows[0]["segmentation"]) == plane(box).sum()


def test_each_object_is_found_once_by_the_best_detection() -> None:
    target = Target(torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([1, 2]))
    detections = found(
        [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], [0.6, 0.9, 0.8], [1, 1, 0]
    )
    marks = match(target, detections)
    assert marks.right == (False, True, False)
    assert marks.missed == (1,)
    assert match(target, found([], [], [])).missed == (0, 1)


@pytest.mark.parametrize("masks", [True, False])
def test_pictures(tmp_path: Path, tiny_case: Case, masks: bool) -> None:
    made = make(tmp_path, 4)
    rows = guessed(made, 4)
    scores = evaluate(made.split, rows, masks=masks)
    picture = detection_picture(tiny_case, made.split, rows, masks=masks, score_text="AP")
    assert Image.open(io.BytesIO(picture)).size == (1248, 476)
    curves = Image.open(io.BytesIO(pr_picture(tiny_case, scores.curves, scores.metrics)))
    assert curves.size[0] == (780 if masks else 420)
    shown = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)
    for colour in ((0x22, 0xC5, 0x5E), (0xF9, 0x73, 0x16)):
        assert (np.abs(shown.astype(int) - colour).max(axis=1) < 40).any()
