"""Object detection and instance segmentation, everything fine-tuned."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from bob.protocols.grid import Searchable
from bob.protocols.spec import Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, searched

Engine = Literal["detectron2", "torchvision"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

SMALLEST_SQUARE = 32
"""Side of the smallest square that detectors are trained on, in pixels."""


class DetectionRecipe(Searchable):
    """Detection and instance segmentation; the defaults are the paper's for feature pyramids.

    Source: the configurations of hsouri/bob-detection. The paper's for plain ViTs differ by
    ``augmentation``, ``rpn_convs``, ``head_norm``, ``box_loss`` and ``drop_path``.

    Attributes:
        engine: ``detectron2`` (Cascade R-CNN) or ``torchvision`` (Faster R-CNN); both with a mask
            head where ``masks`` is on.
        frozen: Whether the backbone is left as it is.
        masks: Whether instances have masks.
        epochs: Passes over the train split.
        batch_size: Effective batch; it is split where memory asks for it.
        lr: Peak learning rate of AdamW.
        backbone_lr: The backbone's learning rate as a share of it.
        weight_decay: Decoupled; biases, norms and what the backbone exempts are left out if
            ``decay_norms`` is off.
        decay_norms: Whether biases and norms decay too, as in the paper.
        warmup_updates: Linear warm-up from ``warmup_ratio`` of the rate.
        schedule: ``step`` (a tenth at each milestone) or ``cosine``, per update.
        milestones: Epochs after which ``step`` lowers the rate.
        clip_grad: Largest gradient norm, or none.
        drop_path: Stochastic depth for sources that take ``drop_path_rate``.
        norm_eval: Whether batch norms of the backbone keep their statistics.
        augmentation: ``multiscale`` (short edge from ``short_edges``, half of the time behind a
            crop), ``lsj`` (large-scale jitter onto a square) or ``none``.
        short_edges: Short edges to choose among; the last one is used for testing.
        long_edge: Largest long edge.
        image_size: Side of the square of ``lsj``, for training and testing; without augmentation
            the size that every image is resized to.
        jitter: Range of the scale of ``lsj``.
        hflip: Chance of a horizontal flip.
        neck: ``fpn``, ``simple`` (a simple feature pyramid on the last map) or ``auto``: the
            second for backbones with maps of one stride.
        strides: Strides of the pyramid's levels. One more level is pooled from the last.
        channels: Width of pyramid and heads.
        window: Side of attention windows, in tokens, of a plain ViT; 0 for global attention.
        global_every: Every so-manieth block attends globally.
        tile_positions: Whether position embeddings of a plain ViT are repeated rather than
            interpolated to the larger grid.
        anchor_scale: Anchor side as a multiple of the level's stride.
        anchor_ratios: Height by width.
        rpn_convs: Convolutions of the proposal head.
        rpn_batch: Anchors per image in the loss.
        rpn_candidates: Proposals per level before suppression, in training and testing.
        rpn_proposals: Proposals per image after it, in training and testing.
        roi_batch: Proposals per image in the loss.
        roi_positives: Share of them that may be positive.
        box_pool: Cells along each side of a region pooled for the box head.
        mask_pool: The same for the mask head, whose masks are twice as wide.
        pool_samples: Samples along each side of such a cell; 0 for as many as it spans map cells.
        head_convs: Convolutions of the box head.
        head_fcs: Widths of its fully connected layers.
        mask_convs: Convolutions of the mask head.
        head_norm: Norm of both heads.
        box_loss: Regression loss of the boxes; torchvision has ``smooth_l1`` only.
        box_loss_weight: Its weight in the second stage.
        score_threshold: Detections below are dropped.
        nms: IoU above which the lesser of two detections of a class is dropped.
        max_detections: Per image.
        area_limits: Where small ends and large begins, in pixels of area.
    """

    engine: Engine = "detectron2"
    frozen: bool = False
    masks: bool = True
    epochs: int = Field(default=36, ge=1)
    batch_size: int = Field(default=16, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    backbone_lr: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    decay_norms: bool = True
    warmup_updates: int = Field(default=1000, ge=0)
    warmup_ratio: float = Field(default=1e-3, gt=0, le=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (27, 33)
    clip_grad: float | None = Field(default=None, gt=0)
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    norm_eval: bool = True
    augmentation: Literal["multiscale", "lsj", "none"] = "multiscale"
    short_edges: tuple[int, ...] = Field(
        default=(480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800), min_length=1
    )
    long_edge: int = Field(default=1333, ge=32)
    image_size: int = Field(default=1024, ge=SMALLEST_SQUARE)
    jitter: tuple[float, float] = (0.1, 2.0)
    hflip: float = Field(default=0.5, ge=0, le=1)
    neck: Literal["auto", "fpn", "simple"] = "auto"
    strides: tuple[int, ...] = Field(default=(4, 8, 16, 32), min_length=1)
    channels: int = Field(default=256, ge=8)
    window: int = Field(default=14, ge=0)
    global_every: int = Field(default=3, ge=1)
    tile_positions: bool = False
    anchor_scale: float = Field(default=8.0, gt=0)
    anchor_ratios: tuple[float, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    rpn_convs: int = Field(default=1, ge=1)
    rpn_batch: int = Field(default=256, ge=2)
    rpn_candidates: tuple[int, int] = (2000, 1000)
    rpn_proposals: tuple[int, int] = (1000, 1000)
    roi_batch: int = Field(default=512, ge=2)
    roi_positives: float = Field(default=0.25, gt=0, le=1)
    box_pool: int = Field(default=7, ge=1)
    mask_pool: int = Field(default=14, ge=1)
    pool_samples: int = Field(default=0, ge=0)
    head_convs: int = Field(default=4, ge=0)
    head_fcs: tuple[int, ...] = Field(default=(1024,), min_length=1)
    mask_convs: int = Field(default=4, ge=1)
    head_norm: Literal["", "BN", "LN"] = "BN"
    box_loss: Literal["giou", "smooth_l1"] = "giou"
    box_loss_weight: float = Field(default=10.0, gt=0)
    score_threshold: float = Field(default=0.05, ge=0, lt=1)
    nms: float = Field(default=0.5, gt=0, lt=1)
    max_detections: int = Field(default=100, ge=1)
    area_limits: tuple[float, float] = (32.0**2, 96.0**2)

    @model_validator(mode="after")
    def _possible(self) -> DetectionRecipe:
        if self.engine == "torchvision" and self.box_loss != "smooth_l1":
            raise ValueError(
                f"box_loss {self.box_loss!r} is detectron2's; torchvision has 'smooth_l1' only"
            )
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)):
            raise ValueError(f"strides {self.strides} do not double from level to level")
        return self

    @property
    def engine_name(self) -> str:
        """The engine that builds the detector."""
        return self.engine

    @property
    def drop_path_rate(self) -> float:
        """Stochastic depth that the backbone is built with."""
        return self.drop_path

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Judged metrics of the task that this recipe does not give."""
        return () if self.masks else ("mask_ap",)

    def at_size(self, size: int | None) -> Self:
        """The recipe with squares of another size; itself where it has none of that size."""
        if size is None or size < SMALLEST_SQUARE or not self.square:
            return self
        return self.model_copy(update={"image_size": size})

    @property
    def square(self) -> bool:
        """Whether every image is brought onto one square of ``image_size``."""
        return self.augmentation != "multiscale"


ASPECT = 4 / 3
"""Long by short edge of COCO's usual image, 640 x 480."""
HEADS: dict[Engine, float] = {"torchvision": 2.1, "detectron2": 7.8}
"""Forward cost of pyramid, proposals and heads, as a multiple of a ResNet-50's on the same image.

Swin-T under Mask R-CNN and under Cascade Mask R-CNN takes 267 and 745 Gflop at 1280 x 800
(SwinTransformer/Swin-Transformer-Object-Detection README.md @ ed8d4d85); the backbone's share is
92, and a ResNet-50 takes 84.
"""
STAGES: dict[Engine, int] = {"torchvision": 1, "detectron2": 3}
"""Box heads that see each region, one after another."""


def work(recipe: DetectionRecipe, sizes: Sizes) -> Work:
    """Every epoch trains on the train split; the test split is read once."""
    if recipe.square:
        side = test_side = float(recipe.image_size)
    else:
        side = fmean(_side(short, recipe.long_edge) for short in recipe.short_edges)
        test_side = _side(recipe.short_edges[-1], recipe.long_edge)
    images = recipe.epochs * sizes.train
    trained, held = searched(recipe.grid, images)
    return Work(
        side=side,
        test_side=test_side,
        train=images + trained,
        forward=sizes.test + held / recipe.epochs,
        batch=min(recipe.batch_size, sizes.train),
        heads=HEADS[recipe.engine],
        heads_macs=_heads_macs(recipe, side, recipe.roi_batch, recipe.roi_batch / 4),
        test_heads_macs=_heads_macs(
            recipe, test_side, recipe.rpn_proposals[1], recipe.max_detections
        ),
        frozen=recipe.frozen,
    )


def _heads_macs(recipe: DetectionRecipe, side: float, boxes: float, masks: float) -> float:
    """Multiply-adds of pyramid, proposals and heads on one square image, forward.

    Args:
        recipe: The detector's.
        side: Of the image in pixels.
        boxes: Regions that the box heads read.
        masks: Regions that the mask head reads; in training a quarter are positive at most.
    """
    channels, coarsest = recipe.channels, recipe.strides[-1] * 2
    convolution = 9 * channels**2
    cells = sum((side / stride) ** 2 for stride in (*recipe.strides, coarsest))
    dense = cells * convolution * (1 + recipe.rpn_convs)
    widths = (49 * channels, *recipe.head_fcs)
    connected = sum(first * second for first, second in pairwise(widths))
    box = STAGES[recipe.engine] * (recipe.head_convs * convolution * 49 + connected)
    # the last of its convolutions doubles the side, with a kernel of 2 x 2
    mask = 14**2 * channels**2 * (9 * recipe.mask_convs + 4) if recipe.masks else 0
    return dense + boxes * box + masks * mask


def _side(short: int, long_edge: int) -> float:
    """Side of a square of the area of a usual image whose short edge is brought to ``short``."""
    short_edge = min(float(short), long_edge / ASPECT)
    return short_edge * math.sqrt(ASPECT)


JUDGED = (
    Judged("box_ap", "bounded"),
    Judged("mask_ap", "bounded"),
    Judged("train_loss", "positive", higher_is_better=False),
)

SPEC = ProtocolSpec(
    name="detection",
    runner="bob.tasks.detection:run",
    recipe=DetectionRecipe,
    work=work,
    judged=JUDGED,
    description="object detection and instance segmentation, everything fine-tuned",
    data="detection",
    spreads=True,
)
