"""Which detections are of an object at which overlap, as COCO's evaluator decides it.

The evaluator keeps its matches to itself; its overlaps are to be had.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bob.case import DetectionOutcomes, ImageList
from bob.case.detections import THRESHOLDS
from bob.detection.records import Detections

Overlaps = Mapping[tuple[int, int], Any]
"""By ids of image and category: IoU of detections, the best-scored first, and objects in the order
of their annotations, ``(d, g)``. What is empty or absent has no detection or no object."""

_IOUS = np.minimum(np.linspace(0.5, 0.95, THRESHOLDS), 1 - 1e-10)


class Split(Protocol):
    """What matching needs of a split; see ``bob.datasets.coco.CocoSplit``."""

    category_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    dataset: dict[str, Any]
    digest: str


def outcomes_of(
    split: Split,
    detections: Sequence[Detections],
    overlaps: Mapping[str, Overlaps],
    *,
    max_detections: int,
) -> DetectionOutcomes:
    """What average precision of a split is computed from.

    Args:
        split: Ground truth.
        detections: One entry an image; scores are finite.
        overlaps: By ``box`` and ``mask``; without the second masks have no matches.
        max_detections: Per image and class; the best count, as the evaluator counts them.
    """
    crowds: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for annotation in split.dataset["annotations"]:
        key = annotation["image_id"], annotation["category_id"]
        crowds[key].append(bool(annotation.get("iscrowd")))
    columns: dict[str, list[NDArray[Any]]] = defaultdict(list)
    truth: list[tuple[int, int, int]] = []
    for image, (image_id, found) in enumerate(zip(split.image_ids, detections, strict=True)):
        scores, labels = found.scores.numpy(), found.labels.numpy()
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            own = own[np.argsort(-scores[own], kind="stable")][:max_detections]
            columns["images"].append(np.full(len(own), image, np.int32))
            columns["labels"].append(np.full(len(own), label, np.int32))
            columns["scores"].append(scores[own].astype(np.float32))
            key = image_id, split.category_ids[label]
            for kind, known in overlaps.items():
                ious = np.asarray(known.get(key, ()), np.float64)
                ious = ious if ious.size else np.zeros((len(own), 0))
                matched, ignored = _bits(ious, np.array(crowds.get(key, ()), bool))
                columns[f"{kind}_matched"].append(matched)
                columns[f"{kind}_ignored"].append(ignored)
        for label, category in enumerate(split.category_ids):
            count = crowds.get((image_id, category), []).count(False)
            if count:
                truth.append((image, label, count))
    rows = np.array(truth, np.int32).reshape(-1, 3)
    kinds = [f"{kind}_{name}" for kind in overlaps for name in ("matched", "ignored")]
    types = {"images": np.int32, "labels": np.int32, "scores": np.float32}
    arrays: dict[str, Any] = {
        name: np.concatenate([*columns[name], np.zeros(0, types.get(name, np.uint16))])
        for name in (*types, *kinds)
    }
    return DetectionOutcomes(
        lists=(ImageList(count=len(split.image_ids), digest=split.digest),),
        truth_images=rows[:, 0].copy(),
        truth_labels=rows[:, 1].copy(),
        truth_counts=rows[:, 2].copy(),
        **arrays,
    )


def _bits(
    ious: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Bits of thresholds at which detections of one image and class match, and are ignored.

    As pycocotools has it: in the order of scores each takes the free object that it overlaps most,
    of equal ones the last; a crowd is never taken up, and is matched where no object is.

    Args:
        ious: ``(d, g)``.
        crowd: Which of the objects are crowds, ``(g,)``.
    """
    matched, ignored = np.zeros((2, len(ious)), np.uint16)
    order = np.argsort(crowd, kind="stable")
    crowd, ious = crowd[order], ious[:, order] if len(order) else ious
    free = np.ones((THRESHOLDS, ious.shape[1]), bool)
    powers = 1 << np.arange(THRESHOLDS)
    reaching = np.flatnonzero(ious.max(axis=1, initial=0.0) >= _IOUS[0])
    objects = int((~crowd).sum())
    for row in reaching:
        able = (ious[row] >= _IOUS[:, None]) & (free | crowd)
        best = np.where(able, ious[row], -1.0)
        right = able[:, :objects].any(axis=1)
        if objects:
            taken = objects - 1 - np.argmax(best[:, :objects][:, ::-1], axis=1)
            free[right, taken[right]] = False
        matched[row] = powers[right].sum()
        ignored[row] = powers[able[:, objects:].any(axis=1) & ~right].sum()
    return matched, ignored
