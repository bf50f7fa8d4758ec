"""Fine-tuning on 1 % and 10 % of the train split. Source: the paper's ``train_semi.py``.

The draws are fixed and shared by everybody; initialisation and order follow the seed. Where the
recipe has a grid, each draw chooses for itself, on held-out images of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from bob.artifacts.draws import draw_files
from bob.backbones import Backbone
from bob.case import Progress, Trial
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.checkpoints.encoding import State
from bob.checkpoints.randomness import Randomness
from bob.datasets import ClassificationData
from bob.datasets.subsets import Indices, low_shot_draws
from bob.job import Job, TaskOutput
from bob.metrics.draws import DrawScore, draw_contributions, draw_metrics, score_draw
from bob.protocols.low_shot_finetune import LowShotFinetuneRecipe
from bob.tasks._classifying import FinetuneJob, make_loop, search
from bob.training.data import ScoringBatches
from bob.training.search import chosen_metrics, grid_files, grid_remarks, plain_trial

LowShotJob = Job[LowShotFinetuneRecipe, ClassificationData, Backbone]


def run(job: LowShotJob) -> TaskOutput:
    """Fine-tune the backbone anew on every draw and score it on test after the last epoch.

    Returns:
        ``top1``, the mean over shares and draws; for each share ``top1_<share>`` and its
        ``spread_<share>`` over the draws; calibration as means over shares and draws, of which a
        temperature only with a grid; how batches were split, the most of all draws; the draws as
        files; the tried settings of a grid.

    Raises:
        TrainingDiverged: The loss is no longer finite, of a grid under every setting.
    """
    recipe, data = job.recipe, job.data
    started = time.perf_counter()
    draws = low_shot_draws(
        data.train.targets,
        data.class_names,
        shots=(),
        fractions=recipe.fractions,
        draws=recipe.draws,
    )
    images = ScoringBatches(data.test, job.backbone, job.workers, job.group)
    done = _done(job.checkpoint)
    for setting, picks in draws.items():
        scores = done.scores.setdefault(setting, [])
        for draw in range(len(scores), len(picks)):
            group = f"{setting} draw {draw}"
            with job.checkpoint.part(group) as checkpoint:
                part = replace(_of_draw(job, draw, picks[draw]), checkpoint=checkpoint)
                told = Progress(phase="evaluate", epoch=draw, epochs=len(picks))
                scores.append(_score(part, group, images, done, told))
            job.checkpoint.keep("draws", done.plain(time.perf_counter() - started))
            job.checkpoint.step()
    seconds = done.seconds + time.perf_counter() - started
    trials = tuple(done.trials)
    return TaskOutput(
        metrics={**draw_metrics(done.scores), **done.split},
        contributions=draw_contributions(done.scores, data.test.targets),
        timings={"train": seconds - done.evaluate_seconds, "evaluate": done.evaluate_seconds},
        files={**draw_files(done.scores, draws, data), **grid_files(trials)},
        remarks=(
            *done.remarks,
            *data.test.remarks,
            *job.backbone.training_remarks,
            *grid_remarks(recipe.grid, trials),
        ),
        trials=trials,
    )


@dataclass
class _Done:
    """What the draws that are done have given.

    Attributes:
        seconds: What they took before the case was stopped.
        split: How batches were split, the most of all draws.
    """

    scores: dict[str, list[DrawScore]] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    remarks: dict[str, None] = field(default_factory=dict)
    evaluate_seconds: float = 0.0
    seconds: float = 0.0
    split: dict[str, float] = field(default_factory=dict)

    def plain(self, seconds: float) -> State:
        """As plain data, with where the random generators stand before the next draw.

        Args:
            seconds: What the draws took since the case began or went on.
        """
        return {
            "scores": {
                setting: [_plain_score(score) for score in scores]
                for setting, scores in self.scores.items()
            },
            "trials": [plain_trial(trial) for trial in self.trials],
            "remarks": list(self.remarks),
            "evaluate_seconds": self.evaluate_seconds,
            "split": dict(self.split),
            "seconds": self.seconds + seconds,
            "randomness": Randomness.now().plain(),
        }


def _plain_score(score: DrawScore) -> State:
    return {
        "top1": score.top1,
        "calibration": dict(score.calibration),
        "classes": dict(score.classes),
        "correct": score.correct,
    }


def _done(checkpoint: CaseCheckpoint) -> _Done:
    """What a checkpoint holds; the random generators go where it says they stood."""
    found = checkpoint.found("draws")
    if found is None:
        checkpoint.keep("draws", _Done().plain(0.0))
        return _Done()
    checkpoint.keep("draws", found)
    Randomness.of(found["randomness"]).put()
    scores = {
        setting: [DrawScore(**score) for score in scores]
        for setting, scores in found["scores"].items()
    }
    return _Done(
        scores=scores,
        trials=[Trial(**trial) for trial in found["trials"]],
        remarks=dict.fromkeys(found["remarks"]),
        evaluate_seconds=found["evaluate_seconds"],
        seconds=found["seconds"],
        split=dict(found["split"]),
    )


def _score(
    job: FinetuneJob, group: str, images: Iterable[torch.Tensor], done: _Done, told: Progress
) -> DrawScore:
    """Train on one draw and score it; what else it gave is noted in ``done``."""
    torch.manual_seed(job.seed)
    job, tried = search(job, group=group)
    loop = make_loop(replace(job, backbone=job.backbone.copied()))
    loop.train()
    for name, parts in loop.split_metrics.items():
        done.split[name] = max(parts, done.split.get(name, 0.0))
    done.trials += tried
    done.remarks |= dict.fromkeys((*job.data.train.remarks, *loop.remarks))
    start = time.perf_counter()
    job.emit(told)
    score = score_draw(
        loop.predict(images),
        job.data.test.targets,
        job.data.class_names,
        temperature=chosen_metrics(tried).get("grid_val_temperature"),
    )
    done.evaluate_seconds += time.perf_counter() - start
    return score


def _of_draw(job: LowShotJob, draw: int, rows: Indices) -> FinetuneJob:
    """The training of one draw: its images, a seed of its own, and enough epochs."""
    recipe = job.recipe
    updates = max(1, len(rows) // min(recipe.batch_size, len(rows)))
    epochs = max(recipe.epochs, math.ceil(recipe.least_updates / updates))
    seed = job.seed * 1000 + draw
    return replace(
        job,
        recipe=recipe.model_copy(update={"epochs": epochs}),
        data=replace(job.data, train=job.data.train.part(rows)),
        seed=seed,
        group=replace(job.group, seed=seed),
    )
