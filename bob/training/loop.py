"""The visible training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import nn

from bob.backbones.trainable import frozen_parameters, unreached
from bob.case import Emit, Progress
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.checkpoints.encoding import State
from bob.checkpoints.randomness import Randomness
from bob.distributed.group import Group
from bob.errors import TrainingDiverged
from bob.protocols.finetune import FinetuneRecipe
from bob.training.classifier import Classifier
from bob.training.image_loader import Batch
from bob.training.memory import Counts, Parts
from bob.training.optimiser import build_optimiser, build_schedule
from bob.training.states import Unfit, take_up_training, training_state
from bob.training.throttle import Throttle


class Batches(Sized, Iterable[Batch], Protocol):
    """Batches that can be counted and gone through again."""


class StoppableBatches(Batches, Protocol):
    """Batches of which a pass can be stopped and taken up again."""

    def state(self) -> State:
        """Where the pass through them stands."""

    def take_up(self, state: State) -> None:
        """Have the next pass be what is left of that one."""


@dataclass
class Loop:
    """One model being trained.

    Args:
        model: Backbone and head.
        recipe: Settings; ``batch_size`` is the effective batch whatever the device holds.
        fabric: Device and precision.
        batches: The train split; ``StoppableBatches`` where a checkpoint is written.
        classes: Number of classes, or of labels.
        emit: Receives progress.
        criterion: Loss of logits and targets; the recipe's cross-entropy, with mixup and label
            smoothing, where none is given.
        checkpoint: Where its state is written while ``live`` is open.
        counts: Where the parts of batches are kept, for ``train`` and ``score``.
        group: The processes that train the model; ``batches`` are this one's shares.

    Attributes:
        begins: The epoch to begin with; another one than 0 where training goes on.
    """

    model: Classifier
    recipe: FinetuneRecipe
    fabric: Fabric
    batches: Batches
    classes: int
    emit: Emit
    criterion: nn.Module | None = None
    checkpoint: CaseCheckpoint = field(default_factory=CaseCheckpoint)
    counts: Callable[[str], Counts | None] = lambda phase: None
    group: Group = field(default_factory=Group)
    images_seen: int = 0
    train_seconds: float = 0.0
    begins: int = field(default=0, init=False)
    _epoch: int = field(default=0, init=False)
    _steps: int = field(default=0, init=False)
    _total: torch.Tensor = field(default_factory=lambda: torch.zeros(()), init=False)
    _goes_on: bool = field(default=False, init=False)
    _drawn: Randomness | None = field(default=None, init=False)
    _unreached: tuple[str, ...] | None = field(default=None, init=False)
    _apart: tuple[str, ...] = field(default=(), init=False)
    _compared: bool = field(default=False, init=False)
    _throttle: Throttle = field(default_factory=Throttle, init=False)

    def __post_init__(self) -> None:
        device = self.fabric.device
        self._parts = Parts.of_training(device, self.group, self.counts("train"), self.model)
        self._scored_parts = Parts.of_scoring(device, self.counts("score"))
        self._frozen = frozen_parameters(self.model.backbone)
        optimiser = build_optimiser(self.model, self.recipe)
        self.schedule = build_schedule(optimiser, self.recipe, len(self.batches))
        self._raw_optimiser = optimiser
        wrapped: Any = self.fabric.setup(self.model, optimiser)
        self.runner, self.optimiser = wrapped
        self.group.same_start(self.model)
        if self.group.rank:
            Randomness.apart(self.group.rank, self.group.seed)
        self.mixup = _mixup(self.recipe, self.classes) if self.criterion is None else None
        self.loss = self.criterion or _cross_entropy(self.recipe, mixed=self.mixup is not None)

    @property
    def micro_batches(self) -> int:
        """Parts that an effective batch is split into."""
        return self._parts.count

    @property
    def split_metrics(self) -> dict[str, float]:
        """How the effective batches were split; see ``Parts.metrics``."""
        return self._parts.metrics

    @property
    def remarks(self) -> tuple[str, ...]:
        """What training did not reach, and what the processes learnt apart, in sentences."""
        return (*(self._unreached or ()), *self._apart)

    def train(self) -> dict[str, float]:
        """Train every epoch; returns the last one's values, and raises as ``epoch`` does."""
        values: dict[str, float] = {}
        with self.live():
            for epoch in range(self.begins, self.recipe.epochs):
                values = self.epoch(epoch)
        return values

    @contextmanager
    def live(self) -> Iterator[None]:
        """Go on where a checkpoint stood, and write them in the block."""
        found = self.checkpoint.found("training")
        if found is not None:
            try:
                self._take_up(found)
            except Unfit as error:
                self.checkpoint.refuse(str(error))
        with self.checkpoint.live("training", self._state):
            yield

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch, counted from 0; what is left of it, where training goes on.

        Returns:
            Mean training loss and the last learning rate.

        Raises:
            TrainingDiverged: The loss is no longer finite.
            BobError: A single image does not fit the device's memory.
        """
        self.runner.train()
        self._drawn, self._compared = None, False
        steps = len(self.batches)
        if not self._goes_on:
            self._epoch, self._steps = epoch, 0
            self._total = torch.zeros((), device=self.fabric.device)
        self._goes_on = False
        total = self._total
        start = time.perf_counter()
        for step, batch in enumerate(self._fetched(), start=self._steps):
            images, targets = (part.to(self.fabric.device, non_blocking=True) for part in batch)
            self.images_seen += len(targets) * self.group.size
            if self.mixup is not None:
                images, targets = self.mixup(images, targets)
            total += self._update(images, targets)
            self.schedule.step_update(epoch * steps + step + 1)
            self._steps = step + 1
            start = self._counted(start)
            start += self.checkpoint.step()
            self._report(epoch, step, steps, total)
        mean = float(total) / steps
        self._counted(start)
        self._check(mean, epoch)
        rate = max(group["lr"] for group in self.optimiser.param_groups)
        return {"train_loss": mean, "learning_rate": rate}

    def _fetched(self) -> Iterator[Batch]:
        """What is left of a pass, of no step where the pass was complete."""
        if self._steps < len(self.batches):
            yield from self.batches

    def _counted(self, start: float) -> float:
        now = time.perf_counter()
        self.train_seconds += now - start
        return now

    def scoring(self, images: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Batches to score the training on as it stands: between them checkpoints are written."""
        self._drawn = Randomness.now()
        for batch in images:
            yield batch
            if self.group.alone:  # others may have another number of batches
                self.checkpoint.step()

    def _state(self) -> State:
        return {
            **training_state(self.model, self._raw_optimiser, self.fabric),
            "processes": self.group.gathered(
                {
                    "batches": cast(StoppableBatches, self.batches).state(),
                    "randomness": (self._drawn or Randomness.now()).plain(),
                }
            ),
            "epoch": self._epoch,
            "steps": self._steps,
            "total": self._total,
            "images_seen": self.images_seen,
            "train_seconds": self.train_seconds,
            "unreached": self._unreached,
            "apart": self._apart,
            "parts": (self._parts.state(), self._scored_parts.state()),
        }

    def _take_up(self, state: State) -> None:
        take_up_training(state, self.model, self._raw_optimiser, self.fabric)
        own = state["processes"][self.group.rank]
        cast(StoppableBatches, self.batches).take_up(own["batches"])
        self.begins = self._epoch = state["epoch"]
        self._goes_on = True
        self._steps, self._total = state["steps"], state["total"].to(self.fabric.device)
        self.images_seen, self.train_seconds = state["images_seen"], state["train_seconds"]
        self._unreached, self._apart = state["unreached"], state["apart"]
        for parts, kept in zip((self._parts, self._scored_parts), state["parts"], strict=True):
            parts.take_up(kept)
        Randomness.of(own["randomness"]).put()

    def _update(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One optimiser step over the effective batch, in as many parts as memory asks for.

        Returns:
            The mean loss of the whole batch.
        """
        loss = self._parts.run(
            images,
            lambda parts: self._backward(images, targets, parts),
            undo=lambda: self.optimiser.zero_grad(set_to_none=True),
        )
        self.group.sum_gradients(self.model.parameters(), loss)
        if self._unreached is None:
            self._unreached = unreached(self.model.backbone, frozen=self._frozen)
        if self.recipe.clip_grad is not None:
            # a gradient that is not finite is told by its loss, with more words
            self.fabric.clip_gradients(
                self.runner,
                self.optimiser,
                max_norm=self.recipe.clip_grad,
                error_if_nonfinite=False,
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss

    def _backward(
        self, images: torch.Tensor, targets: torch.Tensor, parts: Sequence[slice]
    ) -> torch.Tensor:
        total = torch.zeros((), device=images.device)
        for part, share in zip(parts, self._shares(targets, parts), strict=True):
            with self.group.batch_norm():
                logits = self.runner(images[part])
                loss: torch.Tensor = self.loss(logits, targets[part]) * share
                self.fabric.backward(loss)
            total += loss.detach()
        return total

    def _shares(
        self, targets: torch.Tensor, parts: Sequence[slice]
    ) -> Sequence[float | torch.Tensor]:
        """Shares of parts in the effective batch: of its images, or of what the loss counts."""
        counted: Callable[[torch.Tensor], torch.Tensor] | None = getattr(self.loss, "counted", None)
        if counted is None:
            return [len(targets[part]) / (len(targets) * self.group.size) for part in parts]
        whole = self.group.total(counted(targets)).clamp(min=1)
        return [counted(targets[part]) / whole for part in parts]

    def _report(self, epoch: int, step: int, steps: int, total: torch.Tensor) -> None:
        if not self._throttle.due():
            return
        loss = float(total) / (step + 1)
        if self.group.alone:  # others look at the end of the epoch, and all of them have to
            self._check(loss, epoch)
        self.emit(
            Progress(
                phase="train",
                epoch=epoch,
                epochs=self.recipe.epochs,
                step=step + 1,
                steps=steps,
                loss=loss,
            )
        )

    def _check(self, loss: float, epoch: int) -> None:
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise TrainingDiverged(
                f"The training loss became {loss} in epoch {epoch + 1} of {self.recipe.epochs} "
                f"(optimiser {self.recipe.optimizer}, lr {self.recipe.lr:g}, precision "
                f"{self.fabric.strategy.precision.precision}). Check the backbone for overflow, "
                "or run with --precision 32-true."
            )

    def predict(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Logits ``(n, classes)``, float32 on the CPU, for normalised images ``(b, 3, s, s)``.

        Of several processes each gives its own batches, and has the logits of all.
        """
        self.runner.eval()
        if not self._compared:
            self._apart = self.group.made_same(self.model) or self._apart
            self._compared = True
        with torch.inference_mode():
            own = [self._logits(images) for images in batches]
        return torch.cat(self.group.in_turn(own))

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        device = self.fabric.device
        return self._scored_parts.run(
            images,
            lambda parts: torch.cat(
                [self.runner(images[p].to(device, non_blocking=True)).float().cpu() for p in parts]
            ),
        )


def _cross_entropy(recipe: FinetuneRecipe, *, mixed: bool) -> nn.Module:
    loss: nn.Module = (
        SoftTargetCrossEntropy()
        if mixed
        else nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    )
    return loss


def _mixup(recipe: FinetuneRecipe, classes: int) -> Mixup | None:
    if not recipe.mixup and not recipe.cutmix:
        return None
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        switch_prob=recipe.mixup_switch_prob,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )
