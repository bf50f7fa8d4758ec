"""Every smoke case on an accelerator, held against the bands measured on a CPU. Needs no MLflow.

python -m benchmarks.device_check --accelerator cuda --precision bf16-mixed
"""

from __future__ import annotations

import sys

from benchmarks.common import evaluator, parser, smoke_cases
from bob.case import Status
from bob.report.text import table
from bob.tabular import aligned


def main() -> int:
    """Command line; the exit status is 1 when a case leaves its band."""
    command = parser(__doc__)
    command.add_argument("--base-seed", type=int, default=0)
    args = command.parse_args()
    made = evaluator(args.accelerator, args.precision)
    evaluations = []
    for case in smoke_cases(args.match):
        evaluation = made.evaluate(case.with_seed(args.base_seed))
        evaluations.append(evaluation)
        print(f"{case.name}: {evaluation.verdict.reason}", flush=True)
    environment = evaluations[0].results[0].environment if evaluations else {}
    print(", ".join(f"{key} {value}" for key, value in environment.items()))
    print("\n".join(aligned(table(evaluations))))
    return int(any(evaluation.verdict.status is Status.FAIL for evaluation in evaluations))


if __name__ == "__main__":
    sys.exit(main())
