"""``run_case``: one case in, one result out. No pytest and no MLflow in here."""

from __future__ import annotations

import time
import traceback

from bob.case import Case, Context, Emit, Failure, Progress, Result
from bob.errors import BobError, GridDiverged
from bob.objects import import_object
from bob.protocols import PROTOCOLS
from bob.run.remarks import score_remarks
from bob.startup import import_torchmetrics, importing
from bob.threads import wait_passively

__all__ = ["run_case", "score_remarks"]

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


def _run(case: Case, context: Context, emit: Emit) -> Result:
    with importing():
        import_torchmetrics()
        from bob.run.steps import load, result_of

        runner = import_object(PROTOCOLS[case.task].runner, what=f"task {case.task!r}")

    start = time.perf_counter()
    emit(Progress(phase="load"))
    job, key = load(case, context, emit)
    emit(Progress(phase="loaded", run_key=key))
    loaded = time.perf_counter()
    output = runner(job)
    return result_of(job, output, key=key, start=start, loaded=loaded)
