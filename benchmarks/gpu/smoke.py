"""Smoke cases on the device, held against the bands measured on a CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from benchmarks.gpu.parts import Part, release
from benchmarks.gpu.settings import Settings
from bob.case import Case, Context, Result, Status, Verdict
from bob.catalog import load_catalog
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.references.files import BUILTIN, ReferenceStore
from bob.references.gate import extra_cases, needs_second_stage
from bob.references.judge import Gate
from bob.run import run_case

_GUESS, _DETECTION_GUESS = 10.0, 60.0


def run(part: Part, settings: Settings) -> None:
    """Run and judge cases until time is up; a case outside its band fails the part."""
    cases = ordered(settings)
    if not cases:
        raise BobError(f"No smoke case has {settings.match!r} in its task, backbone or dataset.")
    limit = settings.smoke_limit or len(cases)
    known: dict[str, float] = {}  # seconds of the longest case of each protocol so far
    left_out = []
    # features of a CPU run must not be taken for this device's
    with TemporaryDirectory(prefix="bob-gpu-") as folder:
        context = Context(
            accelerator=settings.device.type, precision=settings.precision, features=folder
        )
        for case in cases[:limit]:
            if part.late(_expected(case, known)):
                left_out.append(f"{case.setting} {case.backbone.key}")
                continue
            start = time.perf_counter()
            with part.step(f"{case.setting} {case.backbone.key}"):
                _evaluate(part, case, context)
            known[case.task] = max(known.get(case.task, 0.0), time.perf_counter() - start)
    if limit < len(cases):
        part.notes.append(f"{len(cases) - limit} of {len(cases)} cases were not wanted")
    if left_out:
        part.notes.append(f"no time for {len(left_out)} cases: {', '.join(left_out)}")


def _detects(task: str) -> bool:
    return PROTOCOLS[task].detects


def _expected(case: Case, known: dict[str, float]) -> float:
    """Seconds that a case may take: what those like it did, or a guess."""
    if not _detects(case.task):
        return known.get(case.task, _GUESS)
    alike = [seconds for task, seconds in known.items() if _detects(task)]
    return known.get(case.task, max(alike, default=_DETECTION_GUESS))


def ordered(settings: Settings) -> list[Case]:
    """The cases of the chosen backbones, so that the first few cover every protocol."""
    selection = Selection("smoke", settings.smoke_backbones, engine="torchvision")
    plan = Plan(load_catalog(), selection)
    queues: dict[str, list[Case]] = {}
    for case in plan.all_cases():
        if settings.match in f"{case.setting} {case.backbone.key}":
            queues.setdefault(case.task, []).append(case)
    return list(_round_robin(queues))


def _round_robin(queues: dict[str, list[Case]]) -> Iterator[Case]:
    """A case of each protocol in turn, the short ones first; another backbone each time."""
    tasks = sorted(queues, key=lambda task: (_detects(task), PROTOCOLS[task].seeded, task))
    for offset, task in enumerate(tasks):
        many = queues[task]
        queues[task] = many[offset % len(many) :] + many[: offset % len(many)]
    while any(queues.values()):
        for task in tasks:
            if queues[task]:
                yield queues[task].pop(0)


def _evaluate(part: Part, case: Case, context: Context) -> None:
    """Both stages of the gate, the second one where there is time for its seeds."""
    start = time.perf_counter()
    gate = Gate(ReferenceStore(BUILTIN))
    results = [_result(case, context)]
    verdict = gate.judge(case, results)
    taken = time.perf_counter() - start
    note = ""
    if needs_second_stage(case, verdict):
        extra = extra_cases(case, [case], reference_seeds=verdict.reference_seeds)
        if part.late(len(extra) * taken):
            note = "no time for further seeds"
        else:
            for further in extra:
                release()
                results.append(_result(further, context))
            verdict = gate.judge(case, results, stage=2)
    part.rows.append(_row(case, results, verdict, time.perf_counter() - start, note))
    if verdict.status is Status.FAIL:
        why = f"{verdict.reason} ({note})" if note else verdict.reason
        part.fail(f"{case.setting} {case.backbone.key}", why)


def _result(case: Case, context: Context) -> Result:
    result = run_case(case, context)
    if result.failure is not None:
        if result.failure.traceback:
            print(result.failure.traceback, flush=True)
        raise BobError(f"{result.failure.kind}: {result.failure.message}")
    return result


def _row(
    case: Case, results: list[Result], verdict: Verdict, seconds: float, note: str
) -> dict[str, object]:
    first = verdict.comparisons[0] if verdict.comparisons else None
    return {
        "task": case.task,
        "dataset": case.dataset.key,
        "backbone": case.backbone.key,
        "metric": case.metric,
        "score": first.value if first else results[0].score,
        "low": first.low if first else None,
        "high": first.high if first else None,
        "reference": first.reference if first else None,
        "metrics": {
            comparison.metric: {
                "value": comparison.value,
                "low": comparison.low,
                "high": comparison.high,
            }
            for comparison in verdict.comparisons
        },
        "seeds": len(results),
        "verdict": verdict.status.value,
        "reason": verdict.reason,
        "note": note,
        "memory_mb": max(result.peak_memory_mb for result in results),
        "seconds": seconds,
    }
