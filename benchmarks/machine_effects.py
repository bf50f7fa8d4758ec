"""What of a machine moves a score of the same seed, code and data: instruction set and threads.

Each setting is a process of its own; two that print the same values computed alike::

    python -m benchmarks.machine_effects
    python -m benchmarks.machine_effects -k resnet_micro_glyphs --task detection

A CPU without AVX-512 gives the rows of AVX2 twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.common import parser, smoke_cases
from bob.protocols import PROTOCOLS

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}  # fmt: skip
SETTINGS: dict[str, dict[str, str]] = {
    "as it is, one thread": {"OMP_NUM_THREADS": "1"},
    "as it is, one thread, again": {"OMP_NUM_THREADS": "1"},
    "as it is, two threads": {"OMP_NUM_THREADS": "2"},
    "torch's kernels for AVX2": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"},
    "all libraries on AVX2": {"OMP_NUM_THREADS": "1", **AVX2},
}


def _run(match: str, task: str) -> None:
    from bob.case import Context
    from bob.run import run_case

    case = smoke_cases(match, task)[0].with_seed(1000)
    result = run_case(case, Context(accelerator="cpu"))
    if result.failure is not None:
        raise SystemExit(result.failure.message)
    values = {judged.name: result.metrics[judged.name] for judged in case.judged}
    print(json.dumps({**values, "kernels": result.environment["kernels"]}))


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--task", choices=PROTOCOLS, action="append")
    command.add_argument("--here", action="store_true", help="one run in this process")
    args = command.parse_args()
    match = args.match or "swin_micro_glyphs"
    tasks = args.task or ["finetune", "linear_probe_paper", "detection"]
    if args.here:
        _run(match, tasks[0])
        return 0
    for task in tasks:
        print(f"\n{task} of {match}, seed 1000")
        for name, setting in SETTINGS.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.machine_effects", "--here", "-k", match,
                 "--task", task],
                env={**os.environ, **setting}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                print(done.stderr[-2000:])
                return 1
            values = json.loads(done.stdout.splitlines()[-1])
            kernels = values.pop("kernels")
            cells = "  ".join(f"{metric} {value:.6f}" for metric, value in values.items())
            print(f"  {name:<28} {cells}  ({kernels})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
