"""End-to-end fine-tuning on a small share of the train images."""

from __future__ import annotations

from pydantic import Field

from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.spec import Judged, ProtocolSpec


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


SPEC = ProtocolSpec(
    name="low_shot_finetune",
    runner="bob.tasks.low_shot_finetune:run",
    recipe=LowShotFinetuneRecipe,
    judged=(Judged("top1", "proportion"),),
    description="end-to-end fine-tuning on 1 % and 10 % of the train images",
)
