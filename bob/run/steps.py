"""Before and after a runner: load what it is given, and make a result of what it gives back.

Imports torch; ``run_case`` imports this module when a case is run.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from lightning_fabric import Fabric, seed_everything

from bob import __version__, datasets
from bob.artifacts.classes import outcome_files
from bob.artifacts.making import make
from bob.backbones import Backbone, ReleasedClassifier, build_backbone, build_released
from bob.backbones.factory_code import factory_fingerprint
from bob.case import Case, Context, Emit, Result, run_key
from bob.checkpoints.case_checkpoint import CaseCheckpoint
from bob.datasets import Data
from bob.distributed.strategy import device_fabric, make_fabric
from bob.job import Job, TaskOutput
from bob.metrics.calibration import calibration_metrics
from bob.objects import import_object
from bob.protocols import PROTOCOLS, Recipe
from bob.run.global_state import import_settings, is_foreign, kept
from bob.run.remarks import score_remarks
from bob.training import environment

AnyJob = Job[Recipe, Data, Backbone | ReleasedClassifier]


def load(
    case: Case,
    context: Context,
    emit: Emit,
    remarks: list[str],
    *,
    rank: int = 0,
    size: int = 1,
) -> tuple[AnyJob, str]:
    """What a runner is given, and the run key.

    Args:
        case: The case.
        context: How it is run.
        emit: Takes progress.
        remarks: Takes what the dataset's loader left changed.
        rank: Which of the case's devices it is loaded for.
        size: How many devices the case has.

    Raises:
        BobError: Data, weights or backbone cannot be loaded.
    """
    trains = PROTOCOLS[case.task].extraction is None
    fabric = (make_fabric if trains else device_fabric)(
        context.accelerator, context.precision, rank=rank, size=size
    )
    environment.reset_peak(fabric.device)
    # Looked up on every call: benchmarks/sabotage.py puts faulty data in its place.
    loader = case.dataset.loader
    with kept(f"dataset {case.dataset.key}", remarks, foreign=is_foreign(loader)):
        data = datasets.load_dataset(case.dataset)
    _import_backbone(case)
    seed_everything(case.seed, workers=True, verbose=False)
    backbone = _backbone(case)
    key = run_key(
        case,
        weights=backbone.weights_digest,
        data=data.sha256,
        factory=factory_fingerprint(case.backbone),
    )
    job: AnyJob = Job(
        case=case,
        recipe=case.recipe,
        backbone=backbone,
        data=data,
        fabric=fabric,
        context=context,
        emit=emit,
        seed=case.seed,
        checkpoint=_checkpoint(case, context, fabric, key, remarks, size),
    )
    return job, key


def result_of(
    job: AnyJob, output: TaskOutput, *, key: str, start: float, loaded: float, size: int = 1
) -> Result:
    """The result of a case that has a score.

    Args:
        job: What the runner was given.
        output: What it gave back.
        key: The run key.
        start: Clock, in seconds, when loading began.
        loaded: Clock when it had ended.
        size: Devices it ran on.
    """
    case, data, device = job.case, job.data, job.device
    precision = str(job.fabric.strategy.precision.precision)
    calibration = calibration_metrics(output.outcomes) if output.outcomes is not None else {}
    per_class = outcome_files(output.outcomes) if output.outcomes is not None else {}
    made = make({**per_class, **output.files})
    return Result(
        case=case,
        run_key=key,
        metrics={**calibration, **output.metrics},
        history=output.history,
        outcomes=output.outcomes,
        queries=output.queries,
        contributions=output.contributions,
        detections=output.detections,
        timings={
            "load": loaded - start,
            **output.timings,
            "total": time.perf_counter() - start,
        },
        peak_memory_mb=environment.peak_memory_mb(device),
        environment={
            **environment.describe(device, precision),
            **({"devices": str(size)} if size > 1 else {}),
        },
        weights_digest=job.backbone.weights_digest,
        data_digest=data.sha256,
        files=made.files,
        remarks=(
            *getattr(data, "notes", ()),
            *getattr(job.backbone, "remarks", ()),
            *output.remarks,
            *score_remarks(case, output.metrics, output.outcomes, data.test_size),
            *made.left_out,
        ),
        trials=tuple(output.trials),
        image_size=0 if PROTOCOLS[case.task].detects else job.backbone.image_size,
        classes=job.classes,
        test_size=data.test_size,
    )


def _checkpoint(
    case: Case, context: Context, fabric: Fabric, key: str, remarks: list[str], size: int
) -> CaseCheckpoint:
    """The checkpoint of the run; one that writes nothing where no folder is named."""
    if not context.checkpoints:
        return CaseCheckpoint()
    facts = {
        "bob": __version__,
        "torch": torch.__version__,
        "protocol": case.protocol,
        "device": fabric.device.type,
        "precision": str(fabric.strategy.precision.precision),
        "devices": str(size),
        "loader processes": str(context.workers),
    }
    return CaseCheckpoint.open(
        Path(context.checkpoints),
        key,
        facts=facts,
        minutes=context.checkpoint_minutes,
        resume=context.resume,
        remarks=remarks,
    )


def _import_backbone(case: Case) -> None:
    """Import the module of a backbone of others before random numbers are seeded.

    A module that draws some when it is imported would change what follows in its first case alone.
    """
    source, name = case.backbone.source, f"backbone {case.backbone.key!r}"
    if is_foreign(source):
        seed_everything(case.seed, workers=True, verbose=False)
        import_settings(source.split(":", 1)[0], lambda: import_object(source, what=name))


def _backbone(case: Case) -> Backbone | ReleasedClassifier:
    if PROTOCOLS[case.task].released_head:
        return build_released(case.backbone)
    return build_backbone(
        case.backbone,
        image_size=case.recipe.input_size,
        drop_path=case.recipe.drop_path_rate,
    )
