"""What executors cost, and what a second worker brings: the same cases, side by side in one run.

::

    OMP_NUM_THREADS=1 python -m benchmarks.executors -k swin --task finetune --seeds 4

Prints seconds of the whole, the part that no case accounts for, and how many times as fast two
workers of one core are as one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from benchmarks.common import parser, smoke_cases
from bob.case import Case, Context, Result
from bob.executors import Event, Executor, Finished, Submission, make_executor
from bob.protocols import PROTOCOLS


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--task", choices=PROTOCOLS, help="only cases of this task")
    command.add_argument("--seeds", type=int, default=2, help="seeds of each case (2)")
    args = command.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a worker has one core
    chosen = smoke_cases(args.match, args.task)
    cases = [case.with_seed(seed) for seed in range(args.seeds) for case in chosen]
    context = Context(accelerator="cpu", workers=0)
    print(f"{len(cases)} cases of one core each, after one that warms up")
    ways: dict[str, Callable[[], Executor]] = {
        "inline": lambda: make_executor("inline"),
        "process, 1 worker": lambda: make_executor("process"),
        "process, 2 workers": lambda: make_executor("process", {"workers": "2"}),
        "ray, 1 core": lambda: _ray(1),
        "ray, 2 cores": lambda: _ray(2),
    }
    seconds = {}
    for name, make in ways.items():
        executor = make()
        _run(executor, cases[:2], context)
        took, inside = _run(executor, cases, context)
        executor.shutdown(cancel=False)
        _leave_ray()
        seconds[name] = took
        beyond = f", beyond the cases {(took - inside) / len(cases):.2f} s each"
        print(f"{name:20}{took:7.1f} s{'' if '2' in name else beyond}", flush=True)
    for name in ("process", "ray"):
        alone, paired = ("1 worker", "2 workers") if name == "process" else ("1 core", "2 cores")
        ratio = seconds[f"{name}, {alone}"] / seconds[f"{name}, {paired}"]
        print(f"{name}: two workers are {ratio:.2f} times as fast as one")
    return 0


def _run(executor: Executor, cases: list[Case], context: Context) -> tuple[float, float]:
    """Seconds of all cases, and the seconds that the cases themselves took, one after the other."""
    results: dict[str, Result] = {}

    def take(event: Event) -> None:
        if isinstance(event, Finished):
            results[event.ticket] = event.result

    begun = time.perf_counter()
    tickets = [f"{number}-{begun}" for number in range(len(cases))]
    for ticket, case in zip(tickets, cases, strict=True):
        executor.submit(Submission(ticket, case, context))
    for ticket in tickets:
        while ticket not in results:
            executor.advance(take, waiting_for=ticket)
    took = time.perf_counter() - begun
    failures = [result.failure for result in results.values() if result.failure]
    if failures:
        sys.exit(f"a case failed: {failures[0].message}")
    return took, sum(result.timings["total"] for result in results.values())


def _ray(cores: int) -> Executor:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        num_cpus=cores, include_dashboard=False, log_to_driver=False, configure_logging=False,
        object_store_memory=100 * 2**20,
    )  # fmt: skip
    return make_executor("ray")


def _leave_ray() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
