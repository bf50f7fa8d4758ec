"""What the smoke scale's detection recipe costs, beside the one it replaced.

One case a task runs under the former recipe and under the present one in turn, in one process, and
the medians of their CPU seconds are printed side by side, scores beside them::

    python -m benchmarks.detection_cost -k swin_micro_glyphs
    python -m benchmarks.detection_cost -k vit_micro_glyphs --engine detectron2 --rounds 1

Both recipes run on the present code. What became faster for both, and so is not in the ratio:
regions are pooled by matrix products, and AdamW's step is fused.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from typing import Any

from benchmarks.common import parser
from bob.case import Case, Context
from bob.catalog import load_catalog
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.run import run_case

TASK_NAMES = ("detection", "detection_frozen", "ood_detection")

FORMER: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 8,
    "lr": 2e-3,
    "backbone_lr": 1.0,
    "warmup_updates": 20,
    "strides": (4, 8, 16),
    "anchor_scale": 4.0,
    "rpn_candidates": (150, 100),
    "rpn_proposals": (60, 40),
    "roi_batch": 16,
    "roi_positives": 0.25,
    "box_pool": 7,
    "mask_pool": 14,
    "pool_samples": 2,
    "head_fcs": (96,),
}
FORMER_DETECTRON2: dict[str, Any] = {"epochs": 6, "pool_samples": 0}
FORMER_VIT: dict[str, Any] = {"backbone_lr": 0.1}


def former(case: Case) -> Case:
    """The case under the recipe that was replaced."""
    recipe: Any = case.recipe
    fields = dict(FORMER)
    if recipe.engine == "detectron2":
        fields |= FORMER_DETECTRON2
    if case.backbone.family == "vit" and not recipe.frozen:
        fields |= FORMER_VIT
    return replace(case, recipe=type(recipe).model_validate({**recipe.model_dump(), **fields}))


def timed(case: Case, context: Context) -> tuple[float, float]:
    """CPU seconds of a case, and its score.

    Raises:
        RuntimeError: The case failed.
    """
    start = time.process_time()
    result = run_case(case, context)
    if result.failure is not None:
        raise RuntimeError(result.failure.message)
    return time.process_time() - start, result.metrics[PROTOCOLS[case.task].metric]


def main() -> int:
    """Command line; the exit status is 1 when no case has the name that was asked for."""
    command = parser(__doc__)
    command.add_argument("--engine", default="torchvision")
    command.add_argument("--rounds", type=int, default=2, help="runs of each recipe")
    args = command.parse_args()
    context = Context(accelerator=args.accelerator, precision=args.precision)
    cases = Plan(load_catalog(), Selection(engine=args.engine)).all_cases()
    chosen = [c for c in cases if c.task in TASK_NAMES and args.match in c.name]
    if not chosen:
        print(f"no detection case has {args.match!r} in its name")
        return 1
    short: Any = chosen[0].recipe
    run_case(replace(chosen[0], recipe=short.model_copy(update={"epochs": 1})), context)
    print(f"{'case':<62} former s  score   now s  score   ratio")
    for case in chosen:
        old, new = [], []
        for _ in range(args.rounds):
            old.append(timed(former(case), context))
            new.append(timed(case, context))
        before, after = (statistics.median(seconds for seconds, _ in runs) for runs in (old, new))
        print(
            f"{case.task + ' ' + case.name:<62} {before:8.1f}  {old[0][1]:.3f} {after:7.1f}  "
            f"{new[0][1]:.3f} {before / after:7.1f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
