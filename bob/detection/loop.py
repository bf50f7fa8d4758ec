"""Training a detector: schedule, updates within memory, freezing, detecting."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from bob.backbones.trainable import frozen_parameters, unreached
from bob.case import Emit, Progress
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.checkpoints.encoding import State
from bob.checkpoints.randomness import Randomness
from bob.datasets.coco import CocoSplit
from bob.datasets.instances import Target
from bob.detection.data import Batch, TrainBatches, scoring_batches
from bob.detection.records import Detections
from bob.distributed.group import Group, batches_of
from bob.errors import TrainingDiverged
from bob.protocols.detection import DetectionRecipe
from bob.startup import settled_objects
from bob.training.memory import Counts, Parts
from bob.training.states import Unfit, take_up_training, training_state
from bob.training.throttle import Throttle

_SCORING_BATCH = 16


class DetectionLoop:
    """One detector being trained.

    Args:
        detector: Gives losses in training and detections otherwise; has ``maps``.
        recipe: Settings; ``batch_size`` is the effective batch whatever the device holds.
        fabric: Device and precision.
        batches: The train split, without end.
        emit: Receives progress.
        checkpoint: Where its state is written while it runs.
        counts: Where the parts of batches are kept, for ``train`` and ``score``.
        group: The processes that train the detector; ``batches`` are this one's shares.

    Attributes:
        history: Mean losses of every epoch: ``train_loss`` and its parts.
        remarks: What the processes learnt apart, in sentences.
        train_seconds: Spent in updates so far.
    """

    def __init__(
        self,
        detector: nn.Module,
        recipe: DetectionRecipe,
        fabric: Fabric,
        batches: TrainBatches,
        emit: Emit,
        checkpoint: CaseCheckpoint | None = None,
        *,
        counts: Callable[[str], Counts | None] = lambda phase: None,
        group: Group | None = None,
    ) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.batches = batches
        self.emit = emit
        self.history: list[dict[str, float]] = []
        self.remarks: tuple[str, ...] = ()
        self.train_seconds = 0.0
        self.group = group = group or Group()
        self._parts = Parts.of_training(fabric.device, group, counts("train"), detector)
        self._scored_parts = Parts(fabric.device, counts=counts("score"))
        self.images_seen = 0
        self.detector = detector
        maps: Any = detector.maps
        maps.frozen, maps.norm_eval = recipe.frozen, recipe.norm_eval
        if recipe.frozen:
            maps.module.requires_grad_(False)
        self._frozen = frozen_parameters(maps.module)
        # a gradient scaler would have a fused step undo its scale, after clipping
        fused = fabric.strategy.precision.precision != "16-mixed"
        raw = torch.optim.AdamW(parameter_groups(detector, recipe), lr=recipe.lr, fused=fused)
        wrapped: Any = fabric.setup(detector, raw)
        self.runner, self.optimiser = wrapped
        group.same_start(detector)
        if group.rank:
            Randomness.apart(group.rank, group.seed)
        self.raw_optimiser = raw
        self._sums: dict[str, torch.Tensor] = {}
        self._checkpoint = checkpoint or CaseCheckpoint()
        self._step = 0
        self._start = 0.0
        self._throttle = Throttle()

    @property
    def micro_batches(self) -> int:
        """Parts that an effective batch is split into."""
        return self._parts.count

    @property
    def split_metrics(self) -> dict[str, float]:
        """How the effective batches were split; see ``Parts.metrics``."""
        return self._parts.metrics

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        return self.recipe.epochs * len(self.batches)

    def run(self) -> None:
        """Train from the first to the last epoch.

        Raises:
            TrainingDiverged: A loss is no longer finite.
            BobError: A single image does not fit the device's memory.
        """
        self.detector.train()
        self._step, self.train_seconds = 0, 0.0
        found = self._checkpoint.found("training")
        if found is not None:
            try:
                self._take_up(found)
            except Unfit as error:
                self._checkpoint.refuse(str(error))
        self._start = time.perf_counter()
        rate = rate_at(self.recipe, len(self.batches))
        with self._checkpoint.live("training", self._state), settled_objects():
            if self._step < self.updates:
                self._train(rate)
        self.train_seconds += time.perf_counter() - self._start
        self.remarks = self.group.made_same(self.detector)

    def _state(self) -> State:
        return {
            **training_state(self.detector, self.raw_optimiser, self.fabric),
            "processes": self.group.gathered(
                {"batches": self.batches.state(), "randomness": Randomness.now().plain()}
            ),
            "step": self._step,
            "sums": self._sums,
            "history": self.history,
            "images_seen": self.images_seen,
            "train_seconds": self.train_seconds + time.perf_counter() - self._start,
            "parts": self._parts.state(),
        }

    def _take_up(self, state: State) -> None:
        take_up_training(state, self.detector, self.raw_optimiser, self.fabric)
        own = state["processes"][self.group.rank]
        self.batches.take_up(own["batches"])
        self._step, self.history = state["step"], state["history"]
        device = self.fabric.device
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self.images_seen, self.train_seconds = state["images_seen"], state["train_seconds"]
        self._parts.take_up(state["parts"])
        for epoch, values in enumerate(self.history):
            self._tell_epoch(epoch, values)
        Randomness.of(own["randomness"]).put()

    def _train(self, rate: Callable[[int], float]) -> None:
        if self.recipe.engine == "detectron2":
            from bob.detection import detectron2_trainer

            detectron2_trainer.train(
                self.detector,
                self.batches,
                self.update,
                updates=self.updates,
                done=self._step,
                lr_lambda=rate,
                optimiser=self.raw_optimiser,
                after=self._after,
            )
            return
        schedule = schedule_of(self.raw_optimiser, rate, done=self._step)
        for step, batch in enumerate(self.batches, start=self._step + 1):
            self.update(batch)
            schedule.step()
            self._after(step, {})
            if step == self.updates:
                return

    def update(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One optimiser step over the effective batch, in as many parts as memory asks for.

        Returns:
            The mean of each loss over the whole batch, detached.
        """
        images, targets = _to(batch, self.fabric.device)
        losses = self._parts.run(
            images,
            lambda parts: self._backward(images, targets, parts),
            undo=lambda: self.optimiser.zero_grad(set_to_none=True),
        )
        self.group.sum_gradients(self.detector.parameters(), *losses.values())
        if not self.images_seen and not self.recipe.frozen:
            maps: Any = self.detector.maps
            unreached(maps.module, frozen=self._frozen)
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
        self.images_seen += len(images) * self.group.size
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        return losses

    def _backward(
        self, images: list[torch.Tensor], targets: list[Target], parts: list[slice]
    ) -> dict[str, torch.Tensor]:
        means: dict[str, torch.Tensor] = {}
        for part in parts:
            share = len(images[part]) / (len(images) * self.group.size)
            # Fabric's wrapper takes records such as Target apart, so it is gone around.
            with self.fabric.autocast(), self.group.batch_norm():
                losses = self.detector(images[part], targets[part])
            with self.group.batch_norm():
                self.fabric.backward(torch.stack(list(losses.values())).sum() * share)
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() * share
        return means

    def _after(self, step: int, _: dict[str, float]) -> None:
        steps = len(self.batches)
        epoch, inside = divmod(step - 1, steps)
        self._step = step
        if inside + 1 < steps:
            self._start += self._checkpoint.step()
            if self._throttle.due() and self.group.rank == 0:
                # several processes look at the end of the epoch, and all of them have to
                means = self._means(epoch, inside + 1, check=self.group.alone)
                self.emit(
                    Progress(
                        phase="train",
                        epoch=epoch,
                        epochs=self.recipe.epochs,
                        step=inside + 1,
                        steps=steps,
                        loss=means["train_loss"],
                    )
                )
            return
        values = self._means(epoch, steps)
        self._sums = {}
        values["learning_rate"] = float(self.raw_optimiser.param_groups[0]["lr"])
        self.history.append(values)
        self._start += self._checkpoint.step()
        self._tell_epoch(epoch, values)

    def _tell_epoch(self, epoch: int, values: dict[str, float]) -> None:
        epochs = self.recipe.epochs
        self.emit(Progress(phase="epoch", epoch=epoch, epochs=epochs, metrics=dict(values)))

    def _means(self, epoch: int, steps: int, *, check: bool = True) -> dict[str, float]:
        """Mean losses of the epoch so far; raises where one is not finite and that is checked."""
        values = {name: float(total) / steps for name, total in self._sums.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad and check:
            raise TrainingDiverged(
                f"{', '.join(bad)} became {values[bad[0]]} in epoch {epoch + 1} of "
                f"{self.recipe.epochs} (lr {self.recipe.lr:g}, precision "
                f"{self.fabric.strategy.precision.precision}). Check the backbone for overflow, "
                "or run with --precision 32-true."
            )
        return {"train_loss": sum(values.values()), **values}

    def detect(self, split: CocoSplit, *, workers: int = 0) -> tuple[Detections, ...]:
        """What the detector finds in each image of a split.

        Of several processes each looks at its own batches, and has what all of them found.
        """
        self.detector.eval()
        found: list[list[Detections]] = []
        done, group = 0, self.group
        batches = batches_of(split, _SCORING_BATCH, rank=group.rank, ranks=group.size)
        for images, sizes in scoring_batches(split, self.recipe, batches, workers):
            found.append(self._scored_parts.run(images, partial(self._found, images, sizes)))
            done = min(len(split), done + len(images) * group.size)
            self.emit(Progress(phase="evaluate", step=done, steps=len(split)))
        return tuple(chain.from_iterable(group.in_turn(found)))

    def _found(
        self, images: list[torch.Tensor], sizes: list[tuple[int, int]], parts: list[slice]
    ) -> list[Detections]:
        found: list[Detections] = []
        for part in parts:
            on_device = [image.to(self.fabric.device) for image in images[part]]
            with torch.inference_mode(), self.fabric.autocast():
                found += self.detector(on_device, sizes[part])
        return found


def _to(batch: Batch, device: torch.device) -> Batch:
    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    images, targets = batch
    return [moved(image) for image in images], [
        Target(
            moved(target.boxes),
            moved(target.labels),
            moved(target.masks) if target.masks is not None else None,
        )
        for target in targets
    ]


def schedule_of(
    optimiser: torch.optim.Optimizer, rate: Callable[[int], float], *, done: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule behind so many updates.

    Args:
        optimiser: New, or one whose state is that behind so many updates.
        rate: Share of the peak after so many updates.
        done: How many.
    """
    return torch.optim.lr_scheduler.LambdaLR(optimiser, rate, last_epoch=done - 1)


def rate_at(recipe: DetectionRecipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate after so many updates, as a share of the peak."""
    total = recipe.epochs * steps_per_epoch
    warmup = min(recipe.warmup_updates, total // 2)

    def rate(step: int) -> float:
        share = 1.0
        if step < warmup:
            share = recipe.warmup_ratio + (1 - recipe.warmup_ratio) * step / warmup
        if recipe.schedule == "cosine":
            past = max(0, step - warmup) / max(1, total - warmup)
            return share * 0.5 * (1 + math.cos(math.pi * min(1.0, past)))
        return share * 0.1 ** sum(step >= m * steps_per_epoch for m in recipe.milestones)

    return rate


def parameter_groups(detector: nn.Module, recipe: DetectionRecipe) -> list[dict[str, Any]]:
    """Trainable parameters: heads before backbone, those that are not decayed apart."""
    maps: Any = detector.maps
    exempt = set(getattr(maps.module, "no_weight_decay", set)())
    inside = {id(parameter) for parameter in maps.module.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            small = parameter.ndim <= 1 or any(name.endswith(suffix) for suffix in exempt)
            key = (id(parameter) in inside, small and not recipe.decay_norms)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": many,
            "lr": recipe.lr * (recipe.backbone_lr if of_backbone else 1.0),
            "weight_decay": 0.0 if spared else recipe.weight_decay,
        }
        for (of_backbone, spared), many in sorted(groups.items(), key=lambda item: item[0])
    ]
