"""Scores of the same cases on one device and on several: equal but for what each draws by itself.

::

    OMP_NUM_THREADS=1 python -m benchmarks.devices -k resnet_micro_glyphs --task finetune --seeds 8

Prints for each case the mean and the deviation over seeds of its score and its training loss, and
Welch's t between them.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from scipy.stats import ttest_ind

from benchmarks.common import parser, smoke_cases
from bob.case import Case, Context
from bob.protocols import PROTOCOLS
from bob.run import run_case


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--task", choices=PROTOCOLS, help="only cases of this task")
    command.add_argument("--seeds", type=int, default=8, help="seeds of each case (8)")
    command.add_argument("--devices", type=int, default=2, help="how many devices (2)")
    args = command.parse_args()
    context = Context(accelerator=args.accelerator, precision=args.precision, workers=0)
    several = replace(context, devices=args.devices)
    for case in smoke_cases(args.match, args.task):
        if not PROTOCOLS[case.task].spreads:
            continue
        alone, shared = (_values(case, args.seeds, how) for how in (context, several))
        for name in alone:
            told = (
                f"{mean:.4f} ± {deviation:.4f}"
                for mean, deviation in map(_spread, (alone[name], shared[name]))
            )
            found = ttest_ind(alone[name], shared[name], equal_var=False)
            print(
                f"{case.task} {case.name} {name}: on 1 device {next(told)}, on {args.devices} "
                f"{next(told)}, p {found.pvalue:.2f}",
                flush=True,
            )
    return 0


def _values(case: Case, seeds: int, context: Context) -> dict[str, list[float]]:
    """Score and training loss of each seed."""
    names = (PROTOCOLS[case.task].metric, "train_loss")
    values: dict[str, list[float]] = {}
    for seed in range(seeds):
        result = run_case(case.with_seed(seed), context)
        if result.failure is not None:
            sys.exit(f"{case.name}, seed {seed}: {result.failure.message}")
        for name in names:
            if name in result.metrics:
                values.setdefault(name, []).append(result.metrics[name])
    return values


def _spread(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)) ** 0.5


if __name__ == "__main__":
    sys.exit(main())
