"""``run_case``: one case in, one result out. No pytest and no MLflow in here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bob.case import Case, Context, Emit, Progress, Result
from bob.checkpoints import remove
from bob.exits import end_forked, running
from bob.memory import hand_out_large_pages, release_freed_memory
from bob.objects import import_object
from bob.protocols import PROTOCOLS
from bob.run.failures import exit_failure, failed
from bob.run.remarks import score_remarks
from bob.startup import import_torchmetrics, importing, settle_again
from bob.threads import wait_passively

__all__ = ["run_case", "score_remarks"]

wait_passively()  # at import, so that a caller who imports torch next has it too
hand_out_large_pages()


def run_case(case: Case, context: Context, emit: Emit | None = None) -> Result:
    """Run one case.

    Settings of the whole process that the case's code changes are put back behind it; the result's
    remarks name them.

    Args:
        case: What to run.
        context: How to run it.
        emit: Called with progress while it runs.

    Returns:
        The result. Whatever goes wrong is in ``result.failure``, code that ends the process with
        it; only interrupts are raised.
    """
    remarks: list[str] = []
    keys: list[str] = []
    what, pid = f"{case.name} {case.task} seed {case.seed}", os.getpid()

    def tell(progress: Progress) -> None:
        end_forked(pid, what)
        if progress.run_key:
            keys.append(progress.run_key)
        if emit is not None:
            emit(progress)

    with running(what) as asked:
        try:
            result = _run(case, context, tell, remarks)
        except BaseException as error:
            result = failed(case, error)
    release_freed_memory()
    settle_again()
    if asked and (result.failure is None or result.failure.kind != "exit"):
        result = Result(case=case, failure=exit_failure(asked[0]))
    if result.failure is not None and context.checkpoints and keys:
        remove(Path(context.checkpoints), keys[0])  # it would fail there again
    return replace(result, remarks=(*result.remarks, *remarks)) if remarks else result


def _run(case: Case, context: Context, emit: Emit, remarks: list[str]) -> Result:
    with importing():
        import_torchmetrics()
        from bob.distributed.group import NeedsParts
        from bob.run.global_state import is_foreign, kept
        from bob.run.several import attempt
        from bob.run.streams import kept_open

        reference = PROTOCOLS[case.task].runner
        runner = import_object(reference, what=f"task {case.task!r}")

    who = f"backbone {case.backbone.key}"
    foreign = any(map(is_foreign, (case.backbone.source, case.dataset.loader, reference)))
    size = context.devices if PROTOCOLS[case.task].spreads else 1
    parts, said = 1, len(remarks)
    with kept_open(who, remarks), kept(who, remarks, foreign=foreign):
        while True:
            try:
                return attempt(case, context, emit, remarks, runner, size=size, parts=parts)
            except NeedsParts as error:
                parts = error.count
                del remarks[said:]
