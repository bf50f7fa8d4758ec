"""What the options say of cases: seeds, time, checkpoints, and what an executor asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bob.case import Case
from bob.errors import BobError
from bob.options import Options
from bob.places import features_root

if TYPE_CHECKING:
    from pathlib import Path

    from bob.executors import Executor, Limit, Need
    from bob.references.files import ReferenceStore


def may_be_written(options: Options, case: Case, store: ReferenceStore) -> bool:
    """Whether ``--bands`` may write a reference of a case."""
    bands = options.bands
    return bands in ("all", "failed") or (bands == "new" and store.find(case) is None)


def certain_seeds(options: Options, case: Case, store: ReferenceStore) -> int:
    """Seeds that a case certainly runs."""
    bands = options.bands
    measured = bands == "all" or (bands == "new" and store.find(case) is None)
    count = options.seeds or (case.reference_seeds if measured else 1)
    return count if case.seeded else 1


def check_hours(options: Options, cases: Sequence[Case], store: ReferenceStore, root: Path) -> None:
    """Refuse what is estimated to take longer than ``--max-gpu-hours``.

    Args:
        options: Of the session. Where it resumes, what is done already takes no time.
        cases: What it selects.
        store: References.
        root: The project's folder.

    Raises:
        BobError: It takes longer, or the store does not answer.
    """
    from bob.cost.present import Shelf
    from bob.cost.total import check_limit
    from bob.standings import runs_left

    assert options.max_gpu_hours is not None
    if options.resume:
        runs = runs_left(cases, options, root)
    else:
        runs = {case.id: certain_seeds(options, case, store) for case in cases}
    check_limit(
        cases,
        limit=options.max_gpu_hours,
        gpu=options.reference_gpu,
        runs=lambda case: runs[case.id],
        kept=Shelf(options.references, options.features or features_root()).kept,
    )


def executor_options(options: Options) -> dict[str, str]:
    """Settings of the executor, by name."""
    address = {"address": options.ray_address} if options.executor == "ray" else {}
    return {**address, **options.executor_options}


def checkpoint_options(options: Options, ledger: Path) -> dict[str, Any]:
    """Where running cases write checkpoints, and how often, as ``Context`` has it.

    Args:
        options: Of the session.
        ledger: They lie beside it.
    """
    minutes = options.save_every
    if minutes is None:
        return {}
    return {
        "checkpoints": str(ledger.parent / "checkpoints"),
        "checkpoint_minutes": minutes,
        "resume": options.resume,
    }


def estimated_need(options: Options, executor: Executor) -> Callable[[Case], Need | None]:
    """What a run of a case is estimated to need, for an executor that asks."""
    from bob.cost.needs import needed
    from bob.executors import places_cases

    gpu = options.reference_gpu
    return (lambda case: needed(case, gpu)) if places_cases(executor) else (lambda case: None)


def time_limit(options: Options, executor: Executor) -> Callable[[Case], Limit | None]:
    """How long a run of a case may take.

    Raises:
        BobError: A time was named, and the executor cannot stop a case.
    """
    from bob.cost.needs import longest_silence
    from bob.executors import Limit, stops_cases

    timeout = options.case_timeout
    if not stops_cases(executor):
        if isinstance(timeout, float):
            raise BobError(
                f"--case-timeout: the executor {options.executor!r} cannot stop a case. "
                "Add --executor=process."
            )
        return lambda case: None
    if isinstance(timeout, float):
        return lambda case: Limit(timeout)
    if timeout is None:
        return lambda case: None
    gpu = options.reference_gpu
    return lambda case: Limit(longest_silence(case, gpu), of_silence=True)
