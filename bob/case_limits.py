"""What the options say of single cases: seeds, time, checkpoints, and what an executor asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bob.case import Case
from bob.errors import BobError
from bob.options import Options

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
