"""Recipes: every setting of a protocol that changes its score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bob.frozen import Frozen
from bob.tasks.grid import Grid, Searchable


class FinetuneRecipe(Searchable):
    """End-to-end fine-tuning; the defaults are the recipe of the paper's ``train.py``.

    Attributes:
        epochs: Passes over the train split.
        batch_size: Effective batch; micro-batches accumulate up to it on small devices.
        image_size: Height and width fed to backbones that accept any size; none for their own.
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
    image_size: int | None = Field(default=None, ge=8)
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


class MultilabelRecipe(FinetuneRecipe):
    """Fine-tuning for any number of labels an image; the defaults are the paper's for CheXpert.

    The paper's layer decay is for ViTs; a scale gives other families 1. Labels are neither mixed
    nor smoothed.
    """

    weight_decay: float = Field(default=1e-3, ge=0)
    warmup_epochs: float = Field(default=10, ge=0)
    warmup_lr: float = Field(default=0.0, ge=0)
    min_lr: float = Field(default=1e-5, ge=0)
    drop_path: float = Field(default=0.2, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, le=0)
    mixup: float = Field(default=0.0, ge=0, le=0)
    cutmix: float = Field(default=0.0, ge=0, le=0)
    rand_augment: str | None = "rand-m6-mstd0.5-inc1"
    random_erase: float = Field(default=0.0, ge=0, le=1)


def dinov2_grid() -> tuple[float, ...]:
    """Inverse regularisation strengths of DINOv2's evaluation: 45 from 1e-6 to 1e5, ascending."""
    return tuple(float(f"{10 ** (-6 + 11 * step / 44):.6g}") for step in range(45))


class ProbeRecipe(Frozen):
    """Logistic regression on frozen features; the defaults are DINOv2's grid of 45 values.

    Attributes:
        image_size: Height and width fed to backbones that accept any size; none for their own.
        c: Inverse regularisation strengths to choose among, ascending: what a summed cross-entropy
            weighs against half the squared norm of the weights.
        holdout: Share of the train split the choice is made on.
    """

    image_size: int | None = Field(default=None, ge=8)
    c: tuple[float, ...] = Field(default_factory=dinov2_grid, min_length=1)
    holdout: float = Field(default=0.1, gt=0, lt=1)


class PaperProbeRecipe(Frozen):
    """The paper's linear probe; the defaults are those of its ``linear_probe.py``.

    Attributes:
        epochs: Augmented views of every train image.
        batch_size: Effective batch.
        image_size: Height and width fed to backbones that accept any size; none for their own.
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
    image_size: int | None = Field(default=None, ge=8)
    base_lr: float = Field(default=0.1, gt=0)
    warmup_epochs: float = Field(default=10, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    trust_coefficient: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    crop_scale: float = Field(default=0.08, gt=0, le=1)
    hflip: float = Field(default=0.5, ge=0, le=1)
    batch_norm: bool = True


class KnnRecipe(Frozen):
    """Weighted nearest-neighbour vote; the defaults are DINO's.

    Attributes:
        image_size: Height and width fed to backbones that accept any size; none for their own.
        k: Neighbours of the judged score.
        others: Further numbers of neighbours, recorded as ``top1_k<N>``.
        temperature: Votes weigh ``exp(cosine / temperature)``.
    """

    image_size: int | None = Field(default=None, ge=8)
    k: int = Field(default=20, ge=1)
    others: tuple[int, ...] = (10, 100, 200)
    temperature: float = Field(default=0.07, gt=0)


class LowShotRecipe(Frozen):
    """Probes of a few train images.

    Attributes:
        image_size: Height and width fed to backbones that accept any size; none for their own.
        shots: Images per class.
        fractions: Shares of the train split, balanced over classes.
        draws: Fixed draws of each setting.
        c: Inverse regularisation strength, on features brought to unit mean square.
    """

    image_size: int | None = Field(default=None, ge=8)
    shots: tuple[int, ...] = (1, 5, 10)
    fractions: tuple[float, ...] = (0.01, 0.1)
    draws: int = Field(default=5, ge=1)
    c: float = Field(default=1.0, gt=0)


class LowShotFinetuneRecipe(FinetuneRecipe):
    """Fine-tuning on shares of the train split; as in the paper's ``train_semi.py``.

    Attributes:
        fractions: Shares of the train split, balanced over classes.
        draws: Fixed draws of each share.
        least_updates: Epochs are added until a draw is trained for this many updates.
    """

    fractions: tuple[float, ...] = Field(default=(0.01, 0.1), min_length=1)
    draws: int = Field(default=5, ge=1)
    least_updates: int = Field(default=0, ge=0)


class RetrievalRecipe(Frozen):
    """Search by cosine similarity.

    Attributes:
        image_size: Height and width fed to backbones that accept any size; none for their own.
        ks: Depths of recall, hit rate and precision.
        setting: Which positives count where a dataset grades them: ``easy``, ``medium``, ``hard``.
    """

    image_size: int | None = Field(default=None, ge=8)
    ks: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1)
    setting: Literal["easy", "medium", "hard"] = "medium"


class ReleasedRecipe(Frozen):
    """The released classifier, read as its release says: there is nothing to set."""
