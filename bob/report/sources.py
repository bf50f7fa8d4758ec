"""Score rows from wherever scores are: this session, the ledger, references.

An MLflow store's are read by ``bob.tracking.read.scores_of_store``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bob.evaluation import Evaluation
from bob.ledger.ledger import Ledger
from bob.ledger.records import Recorded, superseded
from bob.ledger.score import Score, score_rows, unit_of
from bob.protocols import PROTOCOLS
from bob.references.files import ReferenceStore


def scores_of_session(
    evaluations: Iterable[Evaluation], *, session: str = "", time: str = ""
) -> Iterator[Score]:
    """A row for every metric of every result of this session.

    Args:
        evaluations: Its judged cases.
        session: Its name.
        time: When it ended.
    """
    for evaluation in evaluations:
        runs = [*evaluation.run_ids, *[""] * len(evaluation.results)]
        recorded = recorded_of_session([evaluation], session=session, time=time)
        for entry, run_id in zip(recorded, runs, strict=False):
            yield from score_rows(entry, mlflow_run=run_id)


def recorded_of_session(
    evaluations: Iterable[Evaluation], *, session: str = "", time: str = ""
) -> Iterator[Recorded]:
    """Every result of this session as the ledger holds it, less the name of its entry."""
    for evaluation in evaluations:
        roles = [*evaluation.roles, *["check"] * len(evaluation.results)]
        for result, role in zip(evaluation.results, roles, strict=False):
            yield Recorded(entry="", session=session, role=role, time=time, result=result)


def scores_of_ledger(ledger: Ledger, *, scale: str = "", session: str = "") -> Iterator[Score]:
    """A row for every metric of every result that a ledger holds.

    Args:
        ledger: What cannot be read is named in its ``damaged``.
        scale: Only of this one; of all by default.
        session: Only of this one; of all by default.
    """
    for name in [session] if session else ledger.sessions():
        entries = list(ledger.entries(name))
        gone = superseded(entries, ledger.verdicts(name))
        for recorded in entries:
            of_scale = not scale or recorded.result.case.scale == scale
            if of_scale and recorded.entry not in gone:
                yield from score_rows(recorded)


def scores_of_references(store: ReferenceStore, scale: str) -> Iterator[Score]:
    """A row for every judged metric of every seed of the references of a scale."""
    for file, setting, reference in store.all(scale):
        task, dataset, *variant = setting.split("/")
        spec = PROTOCOLS.get(task)
        judged = {metric.name: metric for metric in spec.judged} if spec else {}
        facts = sorted(reference.environment.items())
        for seed, values in sorted(reference.values.items()):
            for name, value in values.items():
                metric = judged.get(name)
                yield Score(
                    backbone=file.backbone,
                    task=task,
                    dataset=dataset,
                    variant="/".join(variant),
                    scale=scale,
                    seed=seed,
                    metric=name,
                    unit=unit_of(metric),
                    value=value,
                    higher_is_better=metric.higher_is_better if metric else None,
                    is_score=spec is not None and name == spec.metric,
                    test_size=reference.test_size,
                    # weights that differ by seed, or may, are not told
                    seeded=None if spec is None else spec.seeded or not reference.weights,
                    protocol=reference.protocol,
                    role="reference",
                    weights=reference.weights,
                    data=reference.data,
                    environment="; ".join(f"{key}={text}" for key, text in facts),
                    device=reference.environment.get("device", ""),
                    time=reference.recorded,
                )


def newest(scores: Iterable[Score]) -> list[Score]:
    """Of runs of the same thing the latest: one row a backbone, setting, seed, role and metric."""
    kept: dict[tuple[object, ...], Score] = {}
    for score in sorted(scores, key=lambda score: score.time):
        key = (
            score.backbone, score.setting, score.scale, score.seed, score.role, score.metric,
        )  # fmt: skip
        kept[key] = score
    return list(kept.values())
