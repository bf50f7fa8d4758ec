"""Training alone and beside one busy process, with threads that spin and with threads that sleep.

Two processes run the same case through ``run_case`` for a few seconds in turns, one with OpenMP's
own setting and one with the suite's, each alone and beside a NumPy loop on one core that nothing
ties to it. Only one of them works at a time::

    python -m benchmarks.threads
    python -m benchmarks.threads -k resnet_micro_glyphs --task detection --turns 3

``OMP_NUM_THREADS`` is left out, so that torch takes every core. On a machine that others use too,
"alone" is not quite alone, and what counts are the ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bob.case import Progress

BUSY = """
import os
import numpy as np

square, parent = np.random.rand(500, 500), os.getppid()
while os.getppid() == parent:
    square @ square
"""
BOUND = 2.5
# What libgomp does where nothing is set; naming it keeps the suite from setting another.
SETTINGS: dict[str, dict[str, str]] = {"spinning": {"GOMP_SPINCOUNT": "300000"}, "the suite's": {}}
_NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


class Enough(BaseException):
    """The time is over; no failure of the case, so ``run_case`` lets it through."""


def work(match: str, task: str, window: float) -> None:
    """Train for a while for every line read, and write how many updates a second were made."""
    from benchmarks.common import smoke_cases
    from bob.case import Context
    from bob.run import run_case

    case = smoke_cases(match, task)[0]
    case = replace(case, recipe=case.recipe.model_copy(update={"epochs": 1000}))
    marks: list[tuple[float, int]] = []

    def emit(progress: Progress) -> None:
        if progress.phase != "train":
            return
        marks.append((time.perf_counter(), progress.epoch * progress.steps + progress.step))
        # the first updates take memory and choose kernels
        if len(marks) > 2 and marks[-1][0] - marks[1][0] >= window:
            raise Enough

    for _ in sys.stdin:
        marks.clear()
        try:
            result = run_case(case, Context(accelerator="cpu"), emit)
        except Enough:
            (start, first), (end, last) = marks[1], marks[-1]
            print((last - first) / (end - start), flush=True)
        else:
            raise SystemExit(f"over before {window:g} s: {result.failure}")


@contextmanager
def busy(other: bool) -> Iterator[None]:
    """With ``other``, a process beside this one that keeps one core busy."""
    if not other:
        yield
        return
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", BUSY], env={**os.environ, **one_thread})
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Worker:
    """A process that trains when it is asked to."""

    def __init__(self, setting: dict[str, str], arguments: list[str]) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in _NAMES}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.threads", "--worker", *arguments],
            env=environment | setting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def rate(self) -> float:
        """Updates a second in one window."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the worker ended; its words stand above")
        return float(line)


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("-k", dest="match", default="swin_micro_glyphs")
    command.add_argument("--task", default="finetune")
    command.add_argument("--turns", type=int, default=7)
    command.add_argument("--window", type=float, default=3.0, help="seconds of training at a time")
    command.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = command.parse_args()
    if args.worker:
        work(args.match, args.task, args.window)
        return 0

    arguments = ["-k", args.match, "--task", args.task, "--window", str(args.window)]
    workers = {name: Worker(setting, arguments) for name, setting in SETTINGS.items()}
    rates: dict[tuple[str, bool], list[float]] = {}
    loads = []
    try:
        for worker in workers.values():
            worker.rate()  # imports
        for _ in range(args.turns):
            loads.append(os.getloadavg()[0])
            for name, worker in workers.items():
                for other in (False, True):
                    with busy(other):
                        rates.setdefault((name, other), []).append(worker.rate())
    finally:
        for worker in workers.values():
            worker.process.kill()

    print(f"{args.task} {args.match}, {args.turns} turns, {os.cpu_count()} cores, load average "
          f"{min(loads):.1f} to {max(loads):.1f}; updates a second")  # fmt: skip
    slower = {}
    for name in workers:
        alone, beside = (statistics.median(rates[name, other]) for other in (False, True))
        slower[name] = alone / beside
        print(f"{name:12} alone {alone:7.2f}, beside a busy process {beside:7.2f}: "
              f"{slower[name]:.2f} times slower")  # fmt: skip
    old, new = workers
    for title, other in (("alone", False), ("beside a busy process", True)):
        pairs = zip(rates[new, other], rates[old, other], strict=True)
        print(f"{new} ÷ {old}, {title}: {statistics.median(a / b for a, b in pairs):.2f}")
    return int(slower[new] > BOUND)


if __name__ == "__main__":
    sys.exit(main())
