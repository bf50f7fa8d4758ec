"""A case on several devices: what the first process does, and what its helpers do.

The first one is that of the case: it loads before the others, so that data are hashed and weights
fetched once, and it alone tells, writes and gives a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from bob.case import Case, Context, Emit, Progress, Result
from bob.distributed.crew import Crew, free_port
from bob.distributed.strategy import threads_among, together
from bob.features.sharded import serve
from bob.job import TaskOutput
from bob.objects import import_object
from bob.protocols import PROTOCOLS
from bob.run.steps import AnyJob, load, result_of

Runner = Callable[[Any], TaskOutput]

_LOAD = "load"
_READY = "ready"


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
    crew = Crew(help_case, size, size, case, context, parts) if size > 1 else None
    with closing(crew) if crew is not None else nullcontext():
        job, key = load(case, context, emit, remarks, size=size)
        emit(Progress(phase="loaded", run_key=key))
        if key in context.known:
            return Result(case=case, run_key=key, recognised=True)
        loaded = time.perf_counter()
        output = runner(job) if crew is None else _run_with(crew, job, runner, parts=parts)
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
    connection.recv()
    job, _ = load(case, context, lambda progress: None, [], rank=rank, size=size)
    connection.send(_READY)
    if PROTOCOLS[case.task].extraction is not None:
        serve(connection, rank, size, job)  # type: ignore[arg-type]
    runner: Runner = import_object(PROTOCOLS[case.task].runner, what=f"task {case.task!r}")
    _train(job, runner, port=connection.recv(), parts=parts, size=size)


def _run_with(crew: Crew, job: AnyJob, runner: Runner, *, parts: int) -> TaskOutput:
    """Run a case that is loaded, with helpers; raises what went wrong first in any process."""
    try:
        crew.tell(_LOAD)
        crew.hear_all()
        if PROTOCOLS[job.case.task].extraction is not None:
            return runner(replace(job, crew=crew))
        port = free_port()
        crew.tell(port)
        return _train(job, runner, port=port, parts=parts, size=crew.size)
    except Exception as error:
        cause = crew.cause(error)
        if cause is error:
            raise
        raise cause from error


def _train(job: AnyJob, runner: Runner, *, port: int, parts: int, size: int) -> TaskOutput:
    with (
        threads_among(size),
        together(job.fabric, port, parts=parts, seed=job.seed) as group,
    ):
        return runner(replace(job, group=group, checkpoint=job.checkpoint.among(group)))
