"""The paper's linear probe."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import EXTRACTION, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work


class PaperProbeRecipe(SizedRecipe):
    """The paper's linear probe; the defaults are those of its ``linear_probe.py``.

    Attributes:
        epochs: Augmented views of every train image.
        batch_size: Effective batch.
        base_lr: Learning rate for a batch of 256; scaled linearly with the batch.
        warmup_epochs: Linear warm-up from 0; cosine to 0 after it, both per update.
        momentum: Of LARS.
        trust_coefficient: Of LARS.
        weight_decay: On the weights.
        crop_scale: Smallest area of the random resized crop.
        hflip: Chance of a horizontal flip.
        batch_norm: Whether features are standardised by the batch (no affine, eps 1e-6) before the
            linear layer. The paper does so for every family but ResNet.
    """

    epochs: int = Field(default=90, ge=1)
    batch_size: int = Field(default=2048, ge=2)
    base_lr: float = Field(default=0.1, gt=0)
    warmup_epochs: float = Field(default=10, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    trust_coefficient: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    crop_scale: float = Field(default=0.08, gt=0, le=1)
    hflip: float = Field(default=0.5, ge=0, le=1)
    batch_norm: bool = True


def work(recipe: PaperProbeRecipe, sizes: Sizes) -> Work:
    """Views of its own of every train image and epoch; one pass over test."""
    views = recipe.epochs * sizes.train
    return Work(
        side=float(recipe.image_size or sizes.side),
        forward=views,
        views=views,
        passes={"test": sizes.test},
    )


SPEC = ProtocolSpec(
    name="linear_probe_paper",
    runner="bob.tasks.linear_probe_paper:run",
    recipe=PaperProbeRecipe,
    work=work,
    judged=(
        Judged("top1", "proportion"),
        Judged("test_loss", "positive", higher_is_better=False),
        Judged("train_loss", "positive", higher_is_better=False),
    ),
    description="the paper's linear probe: LARS on augmented views of frozen features",
    extraction=EXTRACTION,
    spreads=True,
)
