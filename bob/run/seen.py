"""What a case is fed, before anything is trained, and what an earlier run made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bob.artifacts.detections import detection_picture
from bob.artifacts.panels import PanelRow, retrieval_panel
from bob.artifacts.seen import RIGHT, WRONG, SeenImage, SeenRow, seen_picture
from bob.backbones import Backbone, build_backbone
from bob.case import Case, Outcomes
from bob.datasets import (
    AnySplit,
    ClassificationData,
    MultilabelData,
    RetrievalData,
    ShiftData,
    load_dataset,
)
from bob.detection.records import Detections
from bob.features.extract import fed
from bob.protocols import PROTOCOLS

CLASSES, TRAIN, TEST, SHIFTS, FOUND = 12, 3, 6, 8, 8
"""Of each picture at most: classes or queries, images of each, shifts, and right answers."""


def seen(case: Case, outcomes: Outcomes | None = None) -> bytes:
    """A picture of what a case is fed, as PNG.

    Args:
        case: What is to run.
        outcomes: Of an earlier run of it, by which test images are framed right or wrong.

    Raises:
        BobError: Backbone or data cannot be loaded.
    """
    data: Any = load_dataset(case.dataset)
    if PROTOCOLS[case.task].detects:
        return _boxes(case, data)
    backbone = build_backbone(case.backbone, image_size=case.recipe.input_size)
    if isinstance(data, RetrievalData):
        return _answers(case, backbone, data)
    if isinstance(data, MultilabelData):
        return _findings(case, backbone, data)
    return _classes(case, backbone, data, outcomes)


def _classes(
    case: Case, backbone: Backbone, data: ClassificationData, outcomes: Outcomes | None
) -> bytes:
    chosen = _spread(len(data.class_names), CLASSES)
    groups = [("train", data.train, TRAIN, None), ("test", data.test, TEST, outcomes)]
    if isinstance(data, ShiftData):
        groups[1] = ("test", data.test, TRAIN, outcomes)
        shown = _spread(len(data.shifts), SHIFTS)
        groups += [(data.shifts[i].name, data.shifts[i].split, 1, None) for i in shown]
    rows = [SeenRow(data.class_names[label], [[] for _ in groups]) for label in chosen]
    for place, (_, split, count, known) in enumerate(groups):
        picked = [(row, i) for row, label in enumerate(chosen) for i in _of(split, label, count)]
        for (row, index), image in zip(picked, _fed(backbone, split, picked), strict=True):
            rows[row].images[place].append(_judged(image, index, known))  # type: ignore[attr-defined]
    return seen_picture(case, [name for name, *_ in groups], rows, _note(backbone, outcomes))


def _findings(case: Case, backbone: Backbone, data: MultilabelData) -> bytes:
    headings = ("train, has it", "train, has it not", "test, has it", "test, has it not")
    rows = [SeenRow(name, [[] for _ in headings]) for name in data.class_names[:CLASSES]]
    for place, (split, value) in enumerate(
        ((data.train, 1.0), (data.train, 0.0), (data.test, 1.0), (data.test, 0.0))
    ):
        picked = [
            (row, int(index))
            for row in range(len(rows))
            for index in (split.targets[:, row] == value).nonzero().flatten()[:TRAIN]
        ]
        for (row, _), image in zip(picked, _fed(backbone, split, picked), strict=True):
            rows[row].images[place].append(SeenImage(image))  # type: ignore[attr-defined]
    return seen_picture(case, headings, rows, _note(backbone, None))


def _answers(case: Case, backbone: Backbone, data: RetrievalData) -> bytes:
    """Queries and what counts as right."""
    rows = []
    for query in _spread(len(data.queries), CLASSES):
        relevant = data.relevance[query]
        right = torch.cat([relevant.easy, relevant.hard]).tolist()[:FOUND]
        images = fed(backbone, data.queries.part([query]))
        found = fed(backbone, data.database.part(right)) if right else []
        name = data.class_names[int(data.queries.targets[query])] if data.class_names else ""
        rows.append(PanelRow(images[0], f"{name}", [(image, "right") for image in found]))
    size = backbone.image_size
    told = f"fed at {size} pixels; queries, and what counts as right for each"
    return retrieval_panel(case, rows, told)


def _boxes(case: Case, data: Any) -> bytes:
    """Test images with their labels; nothing is detected yet."""
    split = data.shifts[0].split if hasattr(data, "shifts") else data.test
    count = len(split)
    nothing = Detections(
        boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64)
    )
    return detection_picture(
        case, split, [nothing] * count, masks=False,
        score_text=f"{count} test images; what is labelled",
    )  # fmt: skip


def _fed(
    backbone: Backbone, split: AnySplit, picked: Sequence[tuple[int, int]]
) -> Sequence[torch.Tensor]:
    return list(fed(backbone, split.part([index for _, index in picked]))) if picked else []


def _of(split: AnySplit, label: int, count: int) -> list[int]:
    found: list[int] = (split.targets == label).nonzero().flatten()[:count].tolist()
    return found


def _judged(image: torch.Tensor, index: int, outcomes: Outcomes | None) -> SeenImage:
    if outcomes is None:
        return SeenImage(image)
    if bool(outcomes.correct[index]):
        return SeenImage(image, RIGHT)
    said = outcomes.class_names[int(outcomes.predictions[index])]
    return SeenImage(image, WRONG, said)


def _note(backbone: Backbone, outcomes: Outcomes | None) -> str:
    size = f"fed at {backbone.image_size} pixels, shown without the normalisation"
    if outcomes is None:
        return size
    return f"{size}; green right, red wrong with what was said"


def _spread(count: int, most: int) -> list[int]:
    picks = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return sorted(set(picks))
