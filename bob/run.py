"""``run_case``: one case in, one result out. No pytest and no MLflow in here."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from collections.abc import Mapping

from bob.case import Case, Context, Emit, Failure, Outcomes, Progress, Result, run_key
from bob.errors import BobError, GridDiverged
from bob.intervals import FEW_IMAGES, wilson
from bob.objects import import_object
from bob.protocols import PROTOCOLS
from bob.startup import import_torchmetrics, importing
from bob.threads import wait_passively

wait_passively()  # at import, so that a caller who imports torch next has it too


def run_case(case: Case, context: Context, emit: Emit | None = None) -> Result:
    """Run one case.

    Args:
        case: What to run.
        context: How to run it.
        emit: Called with progress while it runs.

    Returns:
        The result. Whatever goes wrong is in ``result.failure``; only interrupts are raised.
    """
    try:
        return _run(case, context, emit or (lambda progress: None))
    except BobError as error:
        unforeseen = error.__cause__ is not None and error.kind not in ("unavailable", "weights")
        text = traceback.format_exc() if unforeseen else ""
        trials = error.trials if isinstance(error, GridDiverged) else ()
        return Result(case=case, failure=Failure(error.kind, str(error), text), trials=trials)
    except Exception as error:
        return Result(
            case=case,
            failure=Failure("error", f"{type(error).__name__}: {error}", traceback.format_exc()),
        )


def score_remarks(
    case: Case, metrics: Mapping[str, float], outcomes: Outcomes | None, test_size: int
) -> tuple[str, ...]:
    """What keeps a share of test images from saying much: few of them, or one class in most.

    Args:
        case: The case.
        metrics: Its metrics.
        outcomes: Per-sample outcomes, if it has them.
        test_size: Images the score was read on.
    """
    score = metrics.get(case.metric, math.nan)
    if case.judged[0].unit != "proportion" or not test_size or not math.isfinite(score):
        return ()
    remarks = []
    if test_size < FEW_IMAGES:
        low, high = wilson(score, test_size)
        images = "image makes" if test_size == 1 else "images make"
        remarks.append(
            f"{test_size} test {images} a coarse score: the 95 % interval of {case.metric} "
            f"{score:.4f} is [{low:.2f}, {high:.2f}]"
        )
    if outcomes is not None:
        counts = Counter(outcomes.targets.tolist())
        largest, count = counts.most_common(1)[0]
        if len(counts) > 1 and score <= count / test_size:
            remarks.append(
                f"{case.metric} {score:.4f} is no more than always naming the class of most test "
                f"images gives ({outcomes.class_names[largest]!r}, {count / test_size:.4f})"
            )
    return tuple(remarks)


def _run(case: Case, context: Context, emit: Emit) -> Result:
    spec = PROTOCOLS[case.task]
    with importing():
        import_torchmetrics()
        from lightning_fabric import seed_everything

        from bob.backbones import Backbone, ReleasedClassifier, build_backbone, build_released
        from bob.backbones.factory_code import factory_fingerprint
        from bob.datasets import load_dataset
        from bob.job import Job, TaskOutput
        from bob.metrics.calibration import calibration_metrics
        from bob.training import environment
        from bob.training.loop import make_fabric

        runner = import_object(spec.runner, what=f"task {case.task!r}")

    start = time.perf_counter()
    emit(Progress(phase="load"))
    fabric = make_fabric(context.accelerator, context.precision)
    environment.reset_peak(fabric.device)
    data = load_dataset(case.dataset)
    seed_everything(case.seed, workers=True, verbose=False)
    backbone: Backbone | ReleasedClassifier
    if spec.released_head:
        backbone = build_released(case.backbone)
    else:
        backbone = build_backbone(
            case.backbone,
            image_size=case.recipe.input_size,
            drop_path=case.recipe.drop_path_rate,
        )
    key = run_key(
        case,
        weights=backbone.weights_digest,
        data=data.sha256,
        factory=factory_fingerprint(case.backbone),
    )
    emit(Progress(phase="loaded", run_key=key))
    loaded = time.perf_counter()
    job = Job(
        case=case,
        recipe=case.recipe,
        backbone=backbone,
        data=data,
        fabric=fabric,
        context=context,
        emit=emit,
        seed=case.seed,
    )
    output: TaskOutput = runner(job)
    precision = str(fabric.strategy.precision.precision)
    calibration = calibration_metrics(output.outcomes) if output.outcomes is not None else {}
    return Result(
        case=case,
        run_key=key,
        metrics={**calibration, **output.metrics},
        history=output.history,
        outcomes=output.outcomes,
        queries=output.queries,
        timings={
            "load": loaded - start,
            **output.timings,
            "total": time.perf_counter() - start,
        },
        peak_memory_mb=environment.peak_memory_mb(fabric.device),
        environment=environment.describe(fabric.device, precision),
        weights_digest=backbone.weights_digest,
        data_digest=data.sha256,
        files=dict(output.files),
        remarks=(
            *getattr(data, "notes", ()),
            *getattr(backbone, "remarks", ()),
            *output.remarks,
            *score_remarks(case, output.metrics, output.outcomes, data.test_size),
        ),
        trials=tuple(output.trials),
        image_size=0 if spec.detects else backbone.image_size,
        classes=len(data.class_names),
        test_size=data.test_size,
    )
