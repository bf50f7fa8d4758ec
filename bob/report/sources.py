"""Score rows from wherever scores are: this session, the ledger, references.

An MLflow store's are read by ``bob.tracking.read.scores_of_store``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from bob.evaluation import Evaluation
from bob.ledger.ledger import Ledger
from bob.ledger.records import Recorded, superseded
from bob.ledger.score import RunId, Score, score_rows, unit_of
from bob.ledger.units import Units
from bob.protocols import PROTOCOLS
from bob.references.files import ReferenceStore
from bob.report.published import measured_first

_SHOWN = 5e-5
"""Change of a score that four digits show."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A reference that was updated, beside the first values that were accepted.

    Attributes:
        then: Mean score of the anchor.
        now: Mean score in force.
        since: Day of the anchor.
        recorded: Day of the reference.
    """

    backbone: str
    setting: str
    then: float
    now: float
    since: str
    recorded: str
    worse: bool


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


def units_of_references(store: ReferenceStore, scale: str) -> dict[RunId, Units]:
    """Which test images were right in every seed of the references of a scale, where they say."""
    found: dict[RunId, Units] = {}
    for file, setting, reference in store.all(scale):
        for seed, samples in reference.samples.items():
            right = samples.correct()
            if right is not None and reference.data:
                units = Units(values=right.astype(float), of=f"image {reference.data}")
                found["", file.backbone, f"{setting} {seed}", "reference"] = units
    return found


def drifts(store: ReferenceStore, scale: str) -> Iterator[Drift]:
    """How far the scores of references have moved since their anchors, where they have at all."""
    for file, setting, reference in store.all(scale):
        spec = PROTOCOLS.get(setting.split("/")[0])
        if spec is None:
            continue
        now, then = reference.metric(spec.metric), reference.anchored(spec.metric)
        if now and then and abs(fmean(now) - fmean(then)) >= _SHOWN:
            yield Drift(
                backbone=file.backbone,
                setting=f"{setting} {spec.metric}",
                then=fmean(then),
                now=fmean(now),
                since=reference.anchor.recorded,
                recorded=reference.recorded,
                worse=spec.judged[0].sign * (fmean(now) - fmean(then)) < 0,
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


def current(scores: Iterable[Score]) -> list[Score]:
    """Of each backbone and setting the newest score, and those of other seeds that belong to it.

    Rows of another protocol, of other data or of other weights are earlier states of the same name.
    Of a backbone that is initialised anew for each seed the weights tell nothing. Of published
    scores see ``published.measured_first``.
    A score that is not finite is none, and no earlier one stands in for it; see ``not_finite``.
    """
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score in newest(measured_first(scores)):
        if not math.isfinite(score.value):
            continue
        key = score.backbone, score.setting, score.scale, score.metric
        groups.setdefault(key, []).append(score)
    kept: list[Score] = []
    for rows in groups.values():
        last = max(rows, key=lambda row: row.time)
        by_seed: dict[int, Score] = {}
        for row in sorted(rows, key=lambda row: row.time):
            if _belongs(row, last):
                by_seed[row.seed] = row
        kept.extend(by_seed[seed] for seed in sorted(by_seed))
    return kept


def not_finite(scores: Iterable[Score]) -> list[Score]:
    """The newest rows that are NaN or infinite."""
    return [score for score in newest(scores) if not math.isfinite(score.value)]


def _belongs(row: Score, last: Score) -> bool:
    if (row.protocol, row.data) != (last.protocol, last.data):
        return False
    unknown = "random" in (row.pretraining, last.pretraining) or not (row.weights and last.weights)
    return unknown or row.weights == last.weights
