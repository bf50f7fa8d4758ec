"""How often the gate cries wolf: repeat the smoke suite on fresh seeds and count verdicts.

Nothing has changed between the references and these runs, so every failure is a false alarm::

    python -m benchmarks.false_alarms --repetitions 10
"""

from __future__ import annotations

import sys
from collections import Counter

from benchmarks.common import evaluator, parser, smoke_cases
from bob.case import Status


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--repetitions", type=int, default=10)
    command.add_argument("--first-seed", type=int, default=100)
    args = command.parse_args()
    made = evaluator(args.accelerator, args.precision)
    tally: Counter[str] = Counter()
    retried = total = 0
    for repetition in range(args.repetitions):
        seed = args.first_seed + 10 * repetition
        for case in smoke_cases(args.match):
            verdict = made.evaluate(case.with_seed(seed)).verdict
            total += 1
            retried += verdict.stage == 2
            tally[verdict.status.value] += 1
            if verdict.status is not Status.PASS or verdict.stage == 2 or verdict.warnings:
                notes = "; ".join((verdict.reason, *verdict.warnings))
                print(f"seed {seed} {case.name}: stage {verdict.stage} {notes}", flush=True)
        print(f"repetition {repetition + 1} of {args.repetitions}: {dict(tally)}", flush=True)
    failed = tally[Status.FAIL.value]
    print(
        f"{total} cases: {retried} went to the second stage ({retried / total:.1%}), "
        f"{failed} false alarms ({failed / total:.1%})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
