"""What one session's results give together: the ranking, and the board with its page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bob.catalog import Catalog
from bob.evaluation import Evaluation
from bob.ledger.score import best_scores, detections_of, units_of
from bob.report import ranking_text
from bob.report.ranking import Ranking, rank
from bob.report.sources import newest, recorded_of_session, scores_of_session


def ranking_of(evaluations: Sequence[Evaluation]) -> Ranking | None:
    """The order of the backbones; none where no setting has scores of two."""
    return rank(
        newest(best_scores(scores_of_session(evaluations))),
        units=units_of(recorded_of_session(evaluations)),
        backbones={evaluation.case.backbone.key for evaluation in evaluations},
    )


def session_files(
    evaluations: Sequence[Evaluation], ranking: Ranking | None, catalog: Catalog, *, session: str
) -> dict[str, bytes]:
    """Files of the session's run in MLflow, by name.

    Args:
        evaluations: Its judged cases.
        ranking: What is told of it; no file of it where it is none.
        catalog: Where facts of the backbones are.
        session: Its name.
    """
    found = ranking_text.files(ranking) if ranking else {}
    settings: dict[str, set[str]] = {}
    for evaluation in evaluations:
        if any(result.failure is None for result in evaluation.results):
            case = evaluation.case
            settings.setdefault(case.setting, set()).add(case.backbone.key)
    if any(len(backbones) > 1 for backbones in settings.values()):
        found |= _board_files(evaluations, catalog, session)
    return found


def _board_files(
    evaluations: Sequence[Evaluation], catalog: Catalog, session: str
) -> dict[str, bytes]:
    from bob.report.board import make_board
    from bob.report.board_files import markdown_text
    from bob.report.drawn import Drawing
    from bob.report.facts import facts_of
    from bob.report.page import page

    every = [
        row
        for row in newest(scores_of_session(evaluations, session=session))
        if math.isfinite(row.value)
    ]
    rows = best_scores(every)
    scale = evaluations[0].case.scale
    board = make_board(
        rows,
        scale=scale,
        units=units_of(recorded_of_session(evaluations, session=session)),
        facts=facts_of(catalog, rows),
        verdicts={
            (evaluation.case.backbone.key, evaluation.case.setting): evaluation.verdict
            for evaluation in evaluations
        },
        others=[row for row in every if row.unit and not row.is_score],
        drawing=Drawing(detections_of(recorded_of_session(evaluations, session=session))),
    )
    title = f"Battle of the backbones: {scale}, session {session}"
    return {
        "board.html": page(board, title=title, subtitle=f"{len(rows)} scores").encode(),
        "board.md": markdown_text(board, title=title).encode(),
    }
