"""Evaluations from which test images a backbone got right, and their ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bob.case import Case, Outcomes, Result, Status, Verdict
from bob.catalog import BackboneEntry, Catalog
from bob.evaluation import Evaluation
from bob.ledger import best_scores, units_of
from bob.plan import Plan, Selection
from bob.report.ranking import Ranking, rank
from bob.report.sources import newest, recorded_of_session, scores_of_session

Play = Callable[..., Evaluation]
"""``evaluation_of`` less its catalog."""


def evaluation_of(
    catalog: Catalog,
    backbone: str,
    task: str,
    *seeds: Sequence[bool],
    score: float | None = None,
) -> Evaluation:
    """An evaluation of a backbone from which test images it got right, one list a seed."""
    case = next(
        case
        for case in Plan(catalog, Selection(backbones=("vit_micro_random",))).all_cases()
        if case.task == task
    )
    entry = BackboneEntry(key=backbone, family="none", source="timm:none")
    case = Case(**{**vars(case), "backbone": entry})
    results = tuple(_result(case.with_seed(n), right, score) for n, right in enumerate(seeds))
    return Evaluation(
        case=case, results=results, verdict=Verdict(status=Status.NO_REFERENCE, reason="")
    )


def _result(case: Case, right: Sequence[bool], score: float | None) -> Result:
    targets = np.arange(len(right)) % 3
    predictions = np.where(right, targets, (targets + 1) % 3)
    outcomes = Outcomes(
        targets=targets,
        target_log_probabilities=np.where(right, 0, -np.inf).astype(np.float32),
        top_classes=predictions[:, None].astype(np.int32),
        top_probabilities=np.ones((len(right), 1), np.float32),
        square_sums=np.ones(len(right), np.float32),
        class_names=("a", "b", "c"),
    )
    value = float(np.mean(right)) if score is None else score
    return Result(
        case=case,
        run_key=case.id,
        metrics={"top1": value},
        outcomes=outcomes if score is None else None,
        test_size=len(right),
    )


def ranked(evaluations: Sequence[Evaluation]) -> Ranking | None:
    """The ranking at the end of a session."""
    return rank(
        newest(best_scores(scores_of_session(evaluations))),
        units=units_of(recorded_of_session(evaluations)),
        backbones=[evaluation.case.backbone.key for evaluation in evaluations],
    )


def shares(*right: int, of: int = 100) -> list[list[bool]]:
    """Nested outcomes: whoever gets fewer right gets a subset right."""
    return [[row < count for row in range(of)] for count in right]
