"""How many images a case puts through its backbone, forward only or in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from bob.case import Case
from bob.protocols.detection import DetectionRecipe
from bob.protocols.eval_released import ReleasedRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.grid import RateGrid
from bob.protocols.linear_probe_paper import PaperProbeRecipe
from bob.protocols.low_shot_finetune import LowShotFinetuneRecipe

ASPECT = 4 / 3
"""Long by short edge of COCO's usual image, 640 x 480."""
USUAL_SIDE = 224
"""Pixels, where a recipe leaves the size to the backbone."""
HEADS = {"torchvision": 2.1, "detectron2": 7.8}
"""Forward cost of pyramid, proposals and heads, as a multiple of a ResNet-50's on the same image.

Swin-T under Mask R-CNN and under Cascade Mask R-CNN takes 267 and 745 Gflop at 1280 x 800
(SwinTransformer/Swin-Transformer-Object-Detection README.md @ ed8d4d85); the backbone's share is
92, and a ResNet-50 takes 84.
"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Images of one run of a case.

    Attributes:
        train: Through forward and backward pass and update.
        forward: Forward only, for this case alone.
        passes: Forward only, by split; any frozen protocol of the same backbone and dataset reads
            the same features.
        side: Side in pixels of a square of the image's area.
        batch: Images whose activations are held at once in training, 0 without training.
        heads: Cost of a detector's heads, as a multiple of a ResNet-50's forward pass.
        test_side: Side for ``forward``, where it differs.
        frozen: Whether the backbone is run but not trained in ``train``.
    """

    side: float
    train: float = 0.0
    forward: float = 0.0
    passes: Mapping[str, int] = field(default_factory=dict)
    batch: int = 0
    heads: float = 0.0
    test_side: float = 0.0
    frozen: bool = False


def work_of(case: Case) -> Work | None:
    """The work of one run; none where the dataset's entry does not give its sizes."""
    recipe, dataset = case.recipe, case.dataset
    test, shifted = dataset.test_size, dataset.shift_size or 0
    if isinstance(recipe, ReleasedRecipe) and test is not None:
        return Work(side=_own_side(case), forward=test + shifted)
    if dataset.train_size is None or test is None:
        return None
    train = dataset.train_size
    if isinstance(recipe, DetectionRecipe):
        return _detection(recipe, train, test)
    side = float(getattr(recipe, "image_size", None) or _own_side(case))
    if isinstance(recipe, LowShotFinetuneRecipe):
        images = float(sum(recipe.draws * _low_shot(recipe, train, f) for f in recipe.fractions))
        scored = recipe.draws * len(recipe.fractions) * test
        trained, held = _searched(recipe.grid, images)
        return Work(
            side=side,
            train=images + trained,
            forward=scored + held / recipe.epochs,
            batch=recipe.batch_size,
        )
    if isinstance(recipe, FinetuneRecipe):
        trained, held = _searched(recipe.grid, recipe.epochs * train)
        return Work(
            side=side,
            train=recipe.epochs * train + trained,
            forward=recipe.epochs * test + held / recipe.epochs,
            batch=min(recipe.batch_size, train),
        )
    if isinstance(recipe, PaperProbeRecipe):
        return Work(side=side, forward=recipe.epochs * train, passes={"test": test})
    if dataset.kind == "retrieval":
        return Work(side=side, passes={"database": train, "queries": test})
    passes = {"train": train, "test": test}
    return Work(side=side, passes={**passes, "shifts": shifted} if case.task == "ood" else passes)


def _own_side(case: Case) -> float:
    return float(case.backbone.image_size or USUAL_SIDE)


def _searched(grid: RateGrid | None, images: float) -> tuple[float, float]:
    """Images that trying a grid trains on and holds out, of those that one training sees."""
    if grid is None:
        return 0.0, 0.0
    tried = len(grid.settings()) * images
    return tried * (1 - grid.holdout), tried * grid.holdout


def _low_shot(recipe: LowShotFinetuneRecipe, train: int, fraction: float) -> int:
    images = max(1, round(fraction * train))
    updates = max(1, images // min(recipe.batch_size, images))
    return images * max(recipe.epochs, math.ceil(recipe.least_updates / updates))


def _detection(recipe: DetectionRecipe, train: int, test: int) -> Work:
    if recipe.square:
        side = test_side = float(recipe.image_size)
    else:
        side = fmean(_side(short, recipe.long_edge) for short in recipe.short_edges)
        test_side = _side(recipe.short_edges[-1], recipe.long_edge)
    trained, held = _searched(recipe.grid, recipe.epochs * train)
    return Work(
        side=side,
        test_side=test_side,
        train=recipe.epochs * train + trained,
        forward=test + held / recipe.epochs,
        batch=min(recipe.batch_size, train),
        heads=HEADS[recipe.engine],
        frozen=recipe.frozen,
    )


def _side(short: int, long_edge: int) -> float:
    """Side of a square of the area of a usual image whose short edge is brought to ``short``."""
    short_edge = min(float(short), long_edge / ASPECT)
    return short_edge * math.sqrt(ASPECT)
