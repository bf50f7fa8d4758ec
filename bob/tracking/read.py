"""Score rows read back from an MLflow store, those of older versions of bob among them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bob.ledger.score import Score, unit_of
from bob.protocols import PROTOCOLS
from bob.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

_PREFIX = "bob/"
_TRUTH = {"true": True, "false": False}


def scores_of_store(writer: Writer, *, scale: str = "", session: str = "") -> Iterator[Score]:
    """A row for every metric of every finished run of one seed.

    Args:
        writer: The store.
        scale: Only of this one; of all by default.
        session: Only of this one; of all by default.
    """
    experiments = {}
    for experiment in writer.named(f"{_PREFIX}{scale}"):
        parts = experiment.name.removeprefix(_PREFIX).split("/")
        if len(parts) == 2 and parts[1] != "sessions" and (not scale or parts[0] == scale):
            experiments[experiment.experiment_id] = parts[0]
    if not experiments:
        return
    query = "attributes.status = 'FINISHED'"
    if session:
        query += f" and tags.`bob.session` = '{session}'"
    for run in sorted(writer.search(list(experiments), query), key=lambda run: run.info.end_time):
        if run.data.tags.get("bob.role") in ("check", "reference") and _is_one_seed(run):
            yield from _rows(run, experiments[run.info.experiment_id])


def _unclamped(value: float) -> float:
    """SQL stores keep the largest number in place of infinity."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _is_one_seed(run: Run) -> bool:
    return "bob.verdict_name" not in run.data.tags and "bob.seed" in run.data.tags


def _rows(run: Run, scale: str) -> Iterator[Score]:
    from datetime import UTC, datetime

    tags, metrics = run.data.tags, run.data.metrics
    task = tags["bob.task"]
    spec = PROTOCOLS.get(task)
    judged = {metric.name: metric for metric in spec.judged} if spec else {}
    # stores of older versions do not say which metrics are the protocol's own
    names = tags["bob.metrics"].split() if "bob.metrics" in tags else list(judged)
    environment = {
        name.removeprefix("env."): value for name, value in tags.items() if name.startswith("env.")
    }
    seconds = metrics.get("seconds_total", 0.0)
    device = environment.get("device", "")
    ended = datetime.fromtimestamp(run.info.end_time / 1000, UTC).isoformat(timespec="milliseconds")
    for name in names:
        if name not in metrics:
            continue
        metric = judged.get(name)
        yield Score(
            backbone=tags["bob.backbone"],
            family=tags.get("bob.family", ""),
            pretraining=tags.get("bob.pretraining", ""),
            task=task,
            dataset=tags["bob.dataset"],
            variant=tags.get("bob.variant", tags.get("bob.engine", "")),
            scale=scale,
            seed=int(tags["bob.seed"]),
            metric=name,
            unit=unit_of(metric),
            value=_unclamped(metrics[name]),
            higher_is_better=metric.higher_is_better if metric else None,
            is_score=spec is not None and name == spec.metric,
            test_size=int(tags.get("bob.test_size", "0")),
            seeded=_TRUTH.get(tags.get("bob.seeded", "")),
            protocol=tags.get("bob.protocol", ""),
            case=tags.get("bob.case", ""),
            run_key=tags.get("bob.run_key", ""),
            role=tags["bob.role"],
            version=tags.get("bob.version", ""),
            weights=tags.get("bob.weights", ""),
            data=tags.get("bob.data", ""),
            environment="; ".join(f"{key}={value}" for key, value in sorted(environment.items())),
            seconds=seconds,
            device=device,
            gpu_hours=0.0 if device.startswith("cpu") or not device else seconds / 3600,
            session=tags.get("bob.session", ""),
            mlflow_run=run.info.run_id,
            time=ended,
        )
