"""Cases for the tests of costs."""

from __future__ import annotations

from typing import Any

from bob.case import Case
from bob.catalog import BackboneEntry, DatasetEntry
from bob.cost import DEFAULT_GPU
from bob.cost.table import Row, rows

IMAGENET = DatasetEntry(
    key="photographs", loader="a:b", sha256=None, classes=1000, test_size=50_000,
    train_size=1_281_167,
)  # fmt: skip
VIT = BackboneEntry(key="vit", family="vit", source="timm:vit_base_patch16_224.mae")
HOUR = 3600


def case_of(recipe: Any, task: str = "finetune", **changes: Any) -> Case:
    return Case(backbone=VIT, task=task, dataset=IMAGENET, scale="full", recipe=recipe, **changes)


def measured(mode: str) -> list[Row]:
    return [row for row in rows() if row.mode == mode]


def vit_speed(gpu: str = DEFAULT_GPU) -> float:
    return next(
        row.images_per_second
        for row in measured("infer")
        if (row.gpu, row.architecture, row.image_size) == (gpu, "vit_base_patch16_224", 224)
    )
