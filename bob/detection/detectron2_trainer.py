"""detectron2's own trainer loop around the suite's update."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import distributed, nn

from bob.detection.data import Batch
from bob.errors import TrainingDiverged

Update = Callable[[Batch], Mapping[str, torch.Tensor]]
After = Callable[[int, dict[str, float]], None]


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    update: Update,
    *,
    updates: int,
    done: int = 0,
    lr_lambda: Callable[[int], float],
    optimiser: torch.optim.Optimizer,
    after: After,
) -> None:
    """Train for a number of updates.

    Args:
        model: Put into training mode.
        batches: Without end.
        update: Forward, backward and optimiser step of one batch; gives its losses.
        updates: How many.
        done: How many of them have been done already; the optimiser is as they left it.
        lr_lambda: Learning rate after so many updates, as a share of the peak.
        optimiser: Whose learning rates follow it; Fabric's wrapper is taken off.
        after: Called after each update with its number, from 1, and its losses.

    Raises:
        TrainingDiverged: A loss is no longer finite.
    """
    from detectron2.engine import HookBase, hooks
    from detectron2.engine.train_loop import SimpleTrainer

    class Trainer(SimpleTrainer):  # type: ignore[misc, unused-ignore]
        """Takes the step from outside: memory back-off, precision and clipping are the suite's."""

        last: Mapping[str, torch.Tensor]

        def run_step(self) -> None:
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            waited = time.perf_counter() - start
            self.last = update(batch)
            if not distributed.is_initialized():
                self._write_metrics(self.last, waited)
            elif not all(torch.isfinite(loss).all() for loss in self.last.values()):
                # detectron2 would gather them, and have one process alone stop
                raise FloatingPointError("a loss is no longer finite.")

    class Tell(HookBase):  # type: ignore[misc, unused-ignore]
        def after_step(self) -> None:
            losses = {name: float(value) for name, value in self.trainer.last.items()}
            after(self.trainer.iter + 1, losses)

    raw: torch.optim.Optimizer = getattr(optimiser, "optimizer", optimiser)
    trainer: Any = Trainer(model, batches, raw)
    schedule = torch.optim.lr_scheduler.LambdaLR(raw, lr_lambda, last_epoch=done - 1)
    trainer.register_hooks([hooks.LRScheduler(raw, schedule), Tell()])
    log = logging.getLogger("detectron2")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        trainer.train(done, updates)
    except FloatingPointError as error:
        raise TrainingDiverged(
            f"Update {trainer.iter + 1} of {updates}: {' '.join(str(error).split())} Check the "
            "backbone for overflow, or run with --precision 32-true."
        ) from None
    finally:
        log.setLevel(before)
