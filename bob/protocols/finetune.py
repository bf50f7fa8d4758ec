"""End-to-end fine-tuning for image classification."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.grid import Grid, Searchable
from bob.protocols.recipe import SizedRecipe
from bob.protocols.spec import Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, searched


class FinetuneRecipe(SizedRecipe, Searchable):
    """End-to-end fine-tuning; the defaults are the recipe of the paper's ``train.py``.

    Attributes:
        epochs: Passes over the train split.
        batch_size: Effective batch; micro-batches accumulate up to it on small devices.
        optimizer: Name known to timm's optimiser factory.
        lr: Peak learning rate of the head and the last layer.
        weight_decay: Decoupled weight decay; biases and norms are exempt.
        layer_decay: Factor on the learning rate from each layer to the one below it.
        warmup_epochs: Linear warm-up.
        warmup_lr: Learning rate the warm-up starts from.
        min_lr: Learning rate the cosine ends at.
        clip_grad: Largest gradient norm, or none.
        drop_path: Stochastic depth for sources that take ``drop_path_rate``.
        label_smoothing: Mass spread over the other classes.
        mixup: Alpha of mixup, 0 for none.
        cutmix: Alpha of CutMix, 0 for none.
        mixup_switch_prob: Chance of CutMix when both are on.
        rand_augment: timm's RandAugment string, or none.
        color_jitter: Strength of colour jitter where RandAugment is off.
        crop_scale: Smallest area of the random resized crop, 1 for no crop.
        hflip: Chance of a horizontal flip.
        random_erase: Chance of random erasing.
        grid: Learning rates and weight decays to choose among, in place of ``lr`` and
            ``weight_decay``.
    """

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=1024, ge=2)
    optimizer: str = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    warmup_epochs: float = Field(default=5, ge=0)
    warmup_lr: float = Field(default=1e-4, ge=0)
    min_lr: float = Field(default=1e-6, ge=0)
    clip_grad: float | None = Field(default=None, gt=0)
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    mixup: float = Field(default=0.8, ge=0)
    cutmix: float = Field(default=1.0, ge=0)
    mixup_switch_prob: float = Field(default=0.5, ge=0, le=1)
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = Field(default=0.4, ge=0)
    crop_scale: float = Field(default=0.08, gt=0, le=1)
    hflip: float = Field(default=0.5, ge=0, le=1)
    random_erase: float = Field(default=0.25, ge=0, le=1)
    grid: Grid | None = None

    @property
    def drop_path_rate(self) -> float:
        """Stochastic depth that the backbone is built with."""
        return self.drop_path


def work(recipe: FinetuneRecipe, sizes: Sizes) -> Work:
    """Every epoch trains on the train split and is scored on the test split."""
    images = recipe.epochs * sizes.train
    trained, held = searched(recipe.grid, images)
    return Work(
        side=float(recipe.image_size or sizes.side),
        train=images + trained,
        forward=recipe.epochs * sizes.test + held / recipe.epochs,
        batch=min(recipe.batch_size, sizes.train),
    )


SPEC = ProtocolSpec(
    name="finetune",
    runner="bob.tasks.finetune:run",
    recipe=FinetuneRecipe,
    work=work,
    judged=(
        Judged("top1", "proportion"),
        Judged("test_loss", "positive", higher_is_better=False),
        Judged("train_loss", "positive", higher_is_better=False),
        Judged("shifted_top1", "bounded", kinds=("shift",)),
    ),
    description="end-to-end fine-tuning for image classification",
    spreads=True,
)
