"""What a detection case keeps: average precision follows from it, for any weights of the images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bob.case import DetectionOutcomes, ImageList
from bob.case.detections import joined
from bob.datasets.coco import CocoSplit
from bob.detection.evaluate import evaluate
from bob.detection.records import Detections
from bob.errors import BobError
from bob.report.precision import PrecisionTable
from tests.test_detection_scores import Made, found, guessed, make, perfect


def score(outcomes: DetectionOutcomes, kind: str, weights: Any = None, *, part: int = 0) -> float:
    table = PrecisionTable.of(outcomes, kind, part=part)
    assert table is not None
    count = outcomes.lists[part].count
    return table.score(np.ones(count, np.int64) if weights is None else np.asarray(weights))


def outcomes_of(made: Made, rows: list[Detections], **options: Any) -> DetectionOutcomes:
    outcomes = evaluate(made.split, rows, masks=True, **options).outcomes
    assert outcomes is not None
    return outcomes


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most", [100, 3, 1])
def test_average_precision_is_the_evaluators(tmp_path: Path, seed: int, most: int) -> None:
    """With crowds, tied scores, a class that is never there, and images of nothing."""
    made = make(tmp_path, seed, images=12 + 6 * seed)
    scores = evaluate(made.split, guessed(made, seed), masks=True, max_detections=most)
    outcomes = scores.outcomes
    assert outcomes is not None
    assert any(annotation["iscrowd"] for annotation in made.split.dataset["annotations"])
    for kind in ("box", "mask"):
        assert score(outcomes, kind) == pytest.approx(scores.metrics[f"{kind}_ap"], abs=1e-9)
    table = PrecisionTable.of(outcomes, "box")
    assert table is not None
    shares = table.shares(len(made.split))
    assert shares.sum() == pytest.approx(1)
    assert [bool(share) for share in shares] == [
        image in outcomes.truth_images for image in range(len(made.split))
    ]


def repeated(made: Made, rows: list[Detections], times: list[int]) -> tuple[CocoSplit, Any]:
    """A split in which every image is there so many times, and what is detected in it."""
    source = made.split.dataset
    images, annotations, detections = [], [], []
    for place, count in enumerate(times):
        for _ in range(count):
            key = len(images) + 1
            origin = made.split.image_ids[place]
            name = f"copy{key}.png"
            shutil.copy(made.split.path(place), made.split.folder / name)
            images.append({**source["images"][place], "id": key, "file_name": name})
            annotations += [
                {**annotation, "image_id": key}
                for annotation in source["annotations"]
                if annotation["image_id"] == origin
            ]
            detections.append(rows[place])
    annotations = [{**row, "id": number} for number, row in enumerate(annotations, start=1)]
    content = {**source, "images": images, "annotations": annotations}
    return CocoSplit(content, made.split.folder, source=made.split.source), detections


@pytest.mark.parametrize("seed", range(6))
def test_an_image_of_weight_three_counts_as_three_images(tmp_path: Path, seed: int) -> None:
    made = make(tmp_path, seed, images=20)
    stream = np.random.default_rng(seed)
    rows = [
        replace(row, scores=torch.from_numpy(stream.random(len(row), np.float32)))
        for row in guessed(made, seed)
    ]
    outcomes = outcomes_of(made, rows)
    times = stream.integers(0, 4, 20)
    times[:5] = 0
    split, detections = repeated(made, rows, times.tolist())
    metrics = evaluate(split, detections, masks=True).metrics
    for kind in ("box", "mask"):
        assert score(outcomes, kind, times) == pytest.approx(metrics[f"{kind}_ap"], abs=1e-9)


def test_what_has_no_objects_or_no_detections(tmp_path: Path) -> None:
    made = make(tmp_path, 3)
    nothing = outcomes_of(made, [found([], [], [])] * len(made.split))
    assert score(nothing, "box") == 0.0
    assert np.isnan(score(nothing, "box", np.zeros(len(made.split), np.int64)))
    outcomes = outcomes_of(made, perfect(made))
    assert score(outcomes, "box") == pytest.approx(1)
    empty = [place for place, here in enumerate(made.truth) if not here]
    assert np.isnan(score(outcomes, "mask", np.eye(len(made.split), dtype=np.int64)[empty[0]]))
    boxes = evaluate(made.split, perfect(made), masks=False).outcomes
    assert boxes is not None
    assert PrecisionTable.of(boxes, "mask") is None
    bad = [found([[1, 1, 9, 9]], [np.nan], [0]), *perfect(made)[1:]]
    assert evaluate(made.split, bad, masks=True).outcomes is None


def test_lists_are_scored_apart(tmp_path: Path) -> None:
    parts, scores = [], []
    for seed, images in ((1, 14), (2, 9), (3, 21)):
        made = make(tmp_path, seed, images=images)
        found_here = evaluate(made.split, guessed(made, seed), masks=True)
        assert found_here.outcomes is not None
        parts.append(found_here.outcomes)
        scores.append(found_here.metrics["mask_ap"])
    whole = joined(parts)
    assert [images.share for images in whole.lists] == pytest.approx([1 / 3] * 3)
    assert whole.images.dtype == np.int32
    for part, expected in enumerate(scores):
        assert score(whole, "mask", part=part) == pytest.approx(expected, abs=1e-9)
    (single,) = joined(parts[:1]).lists
    assert single == parts[0].lists[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scores": np.zeros(3, np.float32)}, "are not of one length"),
        ({"scores": np.array([0.5, np.nan], np.float32)}, "scores are not finite"),
        ({"scores": np.array(["a", "b"])}, "scores is of type"),
        ({"images": np.array([2, 0], np.int32)}, "images are not in order"),
        ({"images": np.array([0, 3], np.int32)}, "images has others than 0 to 2"),
        ({"labels": np.array([0, -1], np.int32)}, "a class below 0"),
        ({"truth_counts": np.array([0], np.int32)}, "truth_counts has one below 1"),
        ({"box_matched": np.array([7, 1], np.uint16)}, "more box matches than objects"),
        ({"box_matched": np.array([2048, 0], np.uint16)}, "not those of 10 thresholds"),
        ({"box_ignored": np.array([1, 0], np.uint16)}, "not those of 10 thresholds"),
        ({"mask_matched": np.array([7, 0], np.uint16)}, "masks have matches without"),
        ({"lists": ()}, "they are of no images"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], told: str) -> None:
    sound = DetectionOutcomes(
        lists=(ImageList(count=3, digest="d"),),
        images=np.array([0, 2], np.int32),
        labels=np.array([1, 0], np.int32),
        scores=np.array([0.5, 0.25], np.float32),
        box_matched=np.array([7, 0], np.uint16),
        box_ignored=np.zeros(2, np.uint16),
        truth_images=np.array([0], np.int32),
        truth_labels=np.array([1], np.int32),
        truth_counts=np.array([1], np.int32),
    )
    with pytest.raises(BobError, match=told):
        replace(sound, **changes)
