"""A case on several devices: what the first process does, and what its helpers do.

The first one is that of the case: it loads before it starts the others, so that data are hashed and
weights fetched once, and it alone tells, writes and gives a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from torch.distributed import TCPStore

from bob.case import Case, Context, Emit, Progress, Result
from bob.distributed.crew import Crew
from bob.distributed.strategy import meeting, threads_among, together
from bob.errors import BobError
from bob.features.sharded import serve
from bob.job import TaskOutput
from bob.objects import import_object
from bob.protocols import PROTOCOLS
from bob.run.steps import AnyJob, load, result_of

Runner = Callable[[Any], TaskOutput]


def attempt(
    case: Case,
    context: Context,
    emit: Emit,
    remarks: list[str],
    runner: Runner,
    *,
    size: int,
    parts: int,
) -> Result:
    """Load a case and run it.

    Args:
        case: What to run.
        context: How to run it.
        emit: Takes progress.
        remarks: Takes what should be known besides.
        runner: Of the protocol.
        size: Devices.
        parts: Into how many parts each of several devices splits its share of a batch to begin
            with.

    Raises:
        NeedsParts: So few are too few.
    """
    start = time.perf_counter()
    emit(Progress(phase="load"))
    job, key = load(case, context, emit, remarks, size=size)
    emit(Progress(phase="loaded", run_key=key))
    if key in context.known:
        return Result(case=case, run_key=key, recognised=True)
    loaded = time.perf_counter()
    if size == 1:
        output = runner(job)
    else:
        with closing(Crew(help_case, size, size, case, context, parts)) as crew:
            output = _run_with(crew, job, runner, parts=parts)
    return result_of(job, output, key=key, start=start, loaded=loaded, size=size)


def help_case(
    connection: Connection, rank: int, size: int, case: Case, context: Context, parts: int
) -> None:
    """The whole of a helper: load the case, then train with the others, or extract for them.

    Args:
        connection: To the first process.
        rank: Number of this one, from 1.
        size: Devices of the case.
        case: What is run.
        context: How it is run.
        parts: Into how many parts a share of a batch is split to begin with.
    """
    job, _ = load(case, context, lambda progress: None, [], rank=rank, size=size)
    connection.send(_loaded(job))
    if PROTOCOLS[case.task].extraction is not None:
        serve(connection, rank, size, job)  # type: ignore[arg-type]
    runner: Runner = import_object(PROTOCOLS[case.task].runner, what=f"task {case.task!r}")
    store = meeting(rank, size, connection.recv())
    _train(job, runner, store, parts=parts, size=size)


@dataclass(frozen=True)
class _Loaded:
    """What has to be the same in every process, which works on a part of it alone.

    Attributes:
        weights: Digest of them.
        features: Of a fixed input, a few numbers.
        data: Digest of them, and images of the test split.
    """

    weights: str
    features: tuple[float, ...]
    data: tuple[str, int]


def _loaded(job: AnyJob) -> _Loaded:
    features = getattr(job.backbone, "fingerprint", ())
    return _Loaded(job.backbone.weights_digest, features, (job.data.sha256, job.data.test_size))


def _check_loaded(case: Case, own: _Loaded, heard: list[_Loaded]) -> None:
    """Raise where helpers have loaded something else than this process."""
    other = []
    if any(
        theirs.weights != own.weights
        or not np.allclose(theirs.features, own.features, rtol=1e-3, atol=1e-3)
        for theirs in heard
    ):
        other.append(f"backbone {case.backbone.key!r}")
    if any(theirs.data != own.data for theirs in heard):
        other.append(f"dataset {case.dataset.key!r}")
    if other:
        what = " and ".join(other)
        raise BobError(
            f"{what[0].upper()}{what[1:]}: each process that loads it has another one, so that "
            "several devices would not work on the same. Have its code draw from a generator of a "
            "fixed seed, or take --devices=1.",
            kind="devices",
        )


def _run_with(crew: Crew, job: AnyJob, runner: Runner, *, parts: int) -> TaskOutput:
    """Run a case that is loaded, with helpers; raises what went wrong first in any process."""
    try:
        _check_loaded(job.case, _loaded(job), crew.hear_all())
        if PROTOCOLS[job.case.task].extraction is not None:
            return runner(replace(job, crew=crew))
        store = meeting(0, crew.size)
        crew.tell(store.port)
        return _train(job, runner, store, parts=parts, size=crew.size)
    except Exception as error:
        cause = crew.cause(error)
        if cause is error:
            raise
        raise cause from error


def _train(job: AnyJob, runner: Runner, store: TCPStore, *, parts: int, size: int) -> TaskOutput:
    with (
        threads_among(size),
        together(job.fabric, store, parts=parts, seed=job.seed) as group,
    ):
        return runner(replace(job, group=group, checkpoint=job.checkpoint.among(group)))
