"""How long the board, a comparison and an export of thousands of runs take.

::

    python -m benchmarks.report_speed --results 3000

Real results of four micro backbones are kept under the names of the cases of scale ``full``, one a
case, spread over sessions; each command then runs as a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bob.case import Case, Context, Result, run_key
from bob.catalog import load_catalog
from bob.ledger import Ledger
from bob.ledger.records import Recorded, entry_name, now
from bob.plan import Plan, Selection
from bob.run import run_case

_TASKS = ("knn", "linear_probe", "low_shot", "retrieval", "finetune")
_SESSIONS = 30


def real_results(backbones: tuple[str, ...]) -> dict[str, list[Result]]:
    """A result of each backbone by task, measured now."""
    plan = Plan(load_catalog(), Selection(backbones=backbones))
    found: dict[str, list[Result]] = {}
    for task in _TASKS:
        for case in plan.cases(task):
            result = run_case(case, Context(accelerator="cpu"))
            assert result.failure is None, result.failure
            found.setdefault(task, []).append(result)
    return found


def cases_of_full() -> Iterator[Case]:
    """The cases of scale ``full`` of these tasks, task by task."""
    plan = Plan(load_catalog(), Selection(scale="full"))
    for task in _TASKS:
        yield from plan.cases(task)


def fill(ledger: Ledger, cases: list[Case], results: dict[str, list[Result]]) -> None:
    """Keep a real result under every case, that of one micro backbone for each backbone."""
    sessions = [f"session{number:04}" for number in range(_SESSIONS)]
    for session in sessions:
        ledger.open_session(session, {"bob.scale": "full"})
    names = sorted({case.backbone.key for case in cases})
    for number, case in enumerate(cases):
        own = results[case.task]
        result = own[names.index(case.backbone.key) % len(own)]
        weights = result.weights_digest
        key = run_key(case, weights=weights, data=result.data_digest, factory="")
        ledger.write(
            Recorded(
                entry=entry_name(case, "check"),
                session=sessions[number % _SESSIONS],
                role="check",
                time=now(),
                result=replace(result, case=case, run_key=key),
            )
        )


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--results", type=int, default=3000)
    args = command.parse_args()
    micro = tuple(f"{family}_micro_glyphs" for family in ("resnet", "swin", "vit", "convnext"))
    with tempfile.TemporaryDirectory(prefix="bob-report-") as name:
        folder = Path(name)
        cases = list(islice(cases_of_full(), args.results))
        fill(Ledger(folder / "ledger"), cases, real_results(micro))
        backbones = sorted({case.backbone.key for case in cases})
        settings = len({(case.task, case.dataset.key) for case in cases})
        print(f"{len(cases)} runs of {len(backbones)} backbones in {settings} settings")
        source = [f"--from={folder / 'ledger'}", "--scale=full"]
        for words in (
            ["report", *source, "-o", "board.html"],
            ["compare", *backbones[:2], *source],
            ["export", *source, "-o", "out"],
        ):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "bob.cli", *words],
                cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            took = time.perf_counter() - begun
            told = (done.stderr or done.stdout).strip().splitlines()
            print(f"bob {words[0]:8} {took:5.1f} s, exit {done.returncode}: {told[-1:]}")
        size = (folder / "board.html").stat().st_size
        print(f"board.html has {size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
