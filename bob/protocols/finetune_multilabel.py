"""End-to-end fine-tuning for images of any number of labels."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.finetune import FinetuneRecipe, work
from bob.protocols.spec import Judged, ProtocolSpec


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


SPEC = ProtocolSpec(
    name="finetune_multilabel",
    runner="bob.tasks.finetune_multilabel:run",
    recipe=MultilabelRecipe,
    work=work,
    judged=(
        Judged("mean_auroc", "bounded"),
        Judged("test_loss", "positive", higher_is_better=False),
        Judged("train_loss", "positive", higher_is_better=False),
    ),
    description="end-to-end fine-tuning for images of any number of labels",
    data="multilabel",
    spreads=True,
)
