"""COCO's metrics of detections, through ``faster-coco-eval``."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bob.case import DetectionOutcomes
from bob.datasets.instances import Sample, Target
from bob.detection.matching import Overlaps, outcomes_of
from bob.detection.records import Detections

Floats = NDArray[np.float64]

_HUGE = 1e10
_AT_75 = 5
_SIZES = ("small", "medium", "large")
_CHANCE_SEED = 20231029


class Split(Protocol):
    """What scores need of a split; see ``bob.datasets.coco.CocoSplit``."""

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    dataset: dict[str, Any]
    digest: str

    def __len__(self) -> int: ...
    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""

    def sample(self, index: int) -> Sample:
        """Image and instances."""


@dataclass(frozen=True)
class PrCurve:
    """Precision by recall.

    Attributes:
        recalls: ``(101,)``.
        at50: Mean over classes at IoU 0.5, ``(101,)``.
        at75: The same at 0.75.
        mean: The same over IoU 0.5 to 0.95.
        by_class: At IoU 0.5, ``(classes, 101)``; NaN for a class without ground truth.
    """

    recalls: Floats
    at50: Floats
    at75: Floats
    mean: Floats
    by_class: Floats


class ClassScore(NamedTuple):
    """How one class is found.

    Attributes:
        instances: Ground truth, crowds not counted.
        box_ap: NaN without ground truth.
        mask_ap: None where masks are not scored.
    """

    name: str
    instances: int
    box_ap: float
    mask_ap: float | None


@dataclass(frozen=True)
class DetectionScores:
    """Scores of a split.

    Attributes:
        metrics: ``box_ap`` (IoU 0.5 to 0.95), ``box_ap50``, ``box_ap75``, ``box_ap_small``,
            ``box_ap_medium``, ``box_ap_large``, ``box_ar``, and ``mask_*`` alike; fractions. A
            size of which there is no ground truth is left out. All NaN where a box or a score was
            not finite.
        curves: ``box`` and ``mask``; empty where nothing could be scored.
        outcomes: What average precision is computed from; none where nothing could be scored.
    """

    metrics: Mapping[str, float]
    per_class: tuple[ClassScore, ...]
    curves: Mapping[str, PrCurve]
    outcomes: DetectionOutcomes | None = None


def evaluate(
    split: Split,
    detections: Sequence[Detections],
    *,
    masks: bool,
    area_limits: tuple[float, float] = (32.0**2, 96.0**2),
    max_detections: int = 100,
) -> DetectionScores:
    """Score detections as pycocotools does.

    Args:
        split: Ground truth.
        detections: One entry an image.
        masks: Whether masks are scored besides boxes.
        area_limits: Where small ends and large begins, in pixels of area.
        max_detections: Per image; the best count.

    Returns:
        Zeros where nothing was detected, NaN where a box or score is not finite.
    """
    kinds = {"box": "bbox", **({"mask": "segm"} if masks else {})}
    limits = [0.0, *area_limits, _HUGE]
    ranges = [[0.0, _HUGE], *([low, high] for low, high in itertools.pairwise(limits))]
    finite = _finite(detections)
    results = to_coco_results(split, detections) if finite else []
    metrics: dict[str, float] = {}
    curves: dict[str, PrCurve] = {}
    by_class: dict[str, list[float]] = {}
    overlaps: dict[str, Overlaps] = {}
    for kind, iou_type in kinds.items():
        truth = _truth(split, iou_type)
        evaluation = _evaluated(truth, results, iou_type, ranges, max_detections)
        precision, recall = _accumulated(evaluation)
        overlaps[kind] = evaluation.ious
        if not finite:
            precision, recall = (
                np.where(values > -1, np.nan, values) for values in (precision, recall)
            )
        metrics |= _metrics(kind, precision, recall)
        whole = precision[..., 0]
        if finite:
            curves[kind] = _curve(whole)
        by_class[kind] = [_mean(whole[:, :, label]) for label in range(whole.shape[2])]
    counts = dict.fromkeys(split.category_ids, 0)
    for annotation in split.dataset["annotations"]:
        counts[annotation["category_id"]] += not annotation.get("iscrowd")
    instances = [counts[key] for key in split.category_ids]
    mask_aps = by_class["mask"] if masks else [None] * len(instances)
    rows = zip(split.class_names, instances, by_class["box"], mask_aps, strict=True)
    outcomes = None
    if finite:
        outcomes = outcomes_of(split, detections, overlaps, max_detections=max_detections)
    return DetectionScores(metrics, tuple(ClassScore(*row) for row in rows), curves, outcomes)


def _finite(detections: Sequence[Detections]) -> bool:
    return all(
        bool(predicted.boxes.isfinite().all() and predicted.scores.isfinite().all())
        for predicted in detections
    )


def _truth(split: Split, iou_type: str) -> Any:
    """Ground truth as the evaluator takes it.

    It writes into annotations, so they are copied; and an id of 0 means "no match" to it, so they
    are numbered anew.
    """
    from faster_coco_eval import COCO

    fields = ["image_id", "category_id", "bbox", "area", "iscrowd"]
    fields += ["segmentation"] if iou_type == "segm" else []
    annotations = [
        {"id": number, **{key: annotation[key] for key in fields if key in annotation}}
        for number, annotation in enumerate(split.dataset["annotations"], start=1)
    ]
    return COCO({**split.dataset, "annotations": annotations})


def _evaluated(
    truth: Any,
    results: Sequence[Mapping[str, Any]],
    iou_type: str,
    ranges: list[list[float]],
    max_detections: int,
) -> Any:
    """The evaluator when it is done."""
    from faster_coco_eval import COCOeval_faster

    # With a box among its fields, a result's area is the box's, whatever is scored.
    fields = ("image_id", "category_id", "score", "segmentation" if iou_type == "segm" else "bbox")
    found = truth.loadRes([{key: result[key] for key in fields} for result in results])
    evaluation = COCOeval_faster(truth, found, iou_type, print_function=lambda text: None)
    evaluation.params.areaRng = ranges
    evaluation.params.areaRngLbl = ["all", *_SIZES][: len(ranges)]
    evaluation.params.maxDets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _accumulated(evaluation: Any) -> tuple[Floats, Floats]:
    """Precision ``(iou, recall, class, area)`` and recall ``(iou, class, area)``; -1 for none."""
    precision = np.asarray(evaluation.eval["precision"], np.float64)
    recall = np.asarray(evaluation.eval["recall"], np.float64)
    return precision[..., -1], recall[..., -1]


def _metrics(kind: str, precision: Floats, recall: Floats) -> dict[str, float]:
    """Means by name, from what ``_accumulated`` gives."""
    values = {
        f"{kind}_ap": _mean(precision[..., 0]),
        f"{kind}_ap50": _mean(precision[0, ..., 0]),
        f"{kind}_ap75": _mean(precision[_AT_75, ..., 0]),
        f"{kind}_ar": _mean(recall[..., 0]),
    }
    for place, size in enumerate(_SIZES, start=1):
        if (precision[..., place] != -1).any():
            values[f"{kind}_ap_{size}"] = _mean(precision[..., place])
    return values


def _mean(values: Floats) -> float:
    """Over classes and sizes with ground truth; NaN where there are none."""
    known = values[values != -1]
    return float(known.mean()) if known.size else math.nan


def _curve(precision: Floats) -> PrCurve:
    """From precision ``(iou, recall, class)``."""
    known = np.where(precision > -1, precision, np.nan)
    with_truth = known[:, :, ~np.isnan(known[0, 0])]
    over_classes = (
        with_truth.mean(axis=2) if with_truth.shape[2] else np.full(known.shape[:2], np.nan)
    )
    return PrCurve(
        recalls=np.linspace(0, 1, known.shape[1]),
        at50=over_classes[0],
        at75=over_classes[_AT_75],
        mean=over_classes.mean(axis=0),
        by_class=known[0].T,
    )


def to_coco_results(split: Split, detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections as COCO's result format has them, with the dataset's own ids."""
    rows = []
    for image_id, predicted in zip(split.image_ids, detections, strict=True):
        corners = predicted.boxes.double()
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1).tolist()
        scores, labels = predicted.scores.tolist(), predicted.labels.tolist()
        for index, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
            row = {
                "image_id": image_id,
                "category_id": split.category_ids[label],
                "bbox": box,
                "score": score,
            }
            if predicted.masks is not None:
                row["segmentation"] = predicted.masks[index]
            rows.append(row)
    return rows


def detections_json(split: Split, detections: Sequence[Detections]) -> bytes:
    """The same as a JSON file; pixels to three decimals, scores to four."""
    rows = to_coco_results(split, detections)
    for row in rows:
        row["bbox"] = [round(value, 3) for value in row["bbox"]]
        row["score"] = round(row["score"], 4)
    return (json.dumps(rows) + "\n").encode()


def chance_bound(
    split: Split, detections: Sequence[Detections], *, draws: int = 20, max_detections: int = 100
) -> float:
    """Box AP that the same detections reach on other images than those they were made on.

    The highest of several random re-assignments, boxes brought to the other image's size. Always
    the same draws.

    Args:
        split: Ground truth.
        detections: One entry an image.
        draws: Re-assignments.
        max_detections: Per image; the best count.

    Returns:
        0 where there is no other image or where a box or score is not finite.
    """
    if len(detections) < 2 or not _finite(detections):
        return 0.0
    truth = _truth(split, "bbox")
    sizes = torch.tensor([split.size(index)[::-1] for index in range(len(split))])
    stream = np.random.Philox(key=_CHANCE_SEED)
    best = 0.0
    for _ in range(draws):
        order = np.argsort(stream.random_raw(len(detections)), kind="stable").tolist()
        moved = list(detections)
        # All images in one cycle: none keeps its own detections.
        for place, origin in zip(order, order[1:] + order[:1], strict=True):
            predicted, scale = detections[origin], (sizes[place] / sizes[origin]).repeat(2)
            moved[place] = Detections(predicted.boxes * scale, predicted.scores, predicted.labels)
        results = to_coco_results(split, moved)
        evaluation = _evaluated(truth, results, "bbox", [[0.0, _HUGE]], max_detections)
        precision, _ = _accumulated(evaluation)
        best = max(best, _mean(precision))
    return best


@dataclass(frozen=True)
class Matches:
    """Detections of one image against what is in it.

    Attributes:
        right: Whether each detection is of an object of its class that no better one took.
        missed: Positions of objects that none found.
    """

    right: tuple[bool, ...]
    missed: tuple[int, ...]


def match(
    target: Target, found: Detections, *, iou: float = 0.5, min_score: float = 0.0
) -> Matches:
    """Give every object the best-scored detection of its class that overlaps it enough.

    Args:
        target: What is there.
        found: What was detected.
        iou: Least overlap of boxes.
        min_score: Detections below are passed over.
    """
    from torchvision.ops import box_iou

    overlaps = box_iou(found.boxes, target.boxes)
    overlaps = overlaps * (found.labels[:, None] == target.labels[None])
    free = torch.ones(len(target), dtype=torch.bool)
    right = [False] * len(found)
    for index in found.scores.argsort(descending=True, stable=True).tolist():
        row = overlaps[index] * free
        if len(row) and float(found.scores[index]) >= min_score and float(row.max()) >= iou:
            free[int(row.argmax())] = False
            right[index] = True
    return Matches(tuple(right), tuple(free.nonzero()[:, 0].tolist()))
