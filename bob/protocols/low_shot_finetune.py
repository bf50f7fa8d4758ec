"""End-to-end fine-tuning on a small share of the train images."""

from __future__ import annotations

import math

from pydantic import Field

from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.spec import Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work, searched


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


def work(recipe: LowShotFinetuneRecipe, sizes: Sizes) -> Work:
    """Every draw of every share is trained anew and scored on the test split."""
    seen = [_images(recipe, sizes.train, fraction) for fraction in recipe.fractions]
    images = float(recipe.draws * sum(seen))
    scored = recipe.draws * len(recipe.fractions) * sizes.test
    trained, held = searched(recipe.grid, images)
    return Work(
        side=float(recipe.image_size or sizes.side),
        train=images + trained,
        forward=scored + held / recipe.epochs,
        batch=recipe.batch_size,
    )


def _images(recipe: LowShotFinetuneRecipe, train: int, fraction: float) -> int:
    """Images that one draw of a share sees over all its epochs."""
    images = max(1, round(fraction * train))
    updates = max(1, images // min(recipe.batch_size, images))
    return images * max(recipe.epochs, math.ceil(recipe.least_updates / updates))


SPEC = ProtocolSpec(
    name="low_shot_finetune",
    runner="bob.tasks.low_shot_finetune:run",
    recipe=LowShotFinetuneRecipe,
    work=work,
    judged=(Judged("top1", "proportion"),),
    description="end-to-end fine-tuning on 1 % and 10 % of the train images",
    spreads=True,
)
