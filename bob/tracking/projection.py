"""What MLflow is told, as plain data: pure functions from records to params, tags and metrics.

The live record and ``bob sync`` both go through these, so that a run that was sent later says what
one says that was never disturbed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bob.artifacts.classes import worst_class
from bob.artifacts.files import result_files, verdict_file
from bob.artifacts.making import Made, make
from bob.case import Case, Trial, Verdict
from bob.intervals import mean, square_spread
from bob.ledger.records import Recorded
from bob.ledger.score import size_behind
from bob.ledger.writing import entry_record, text_of
from bob.shown import line, markdown_text

_NAME_LIMIT = 250
_SOURCE_LIMIT = 60_000
LEDGER_FILE = "ledger.json"
"""Artifact that holds a result as the ledger does, so that another machine can go on from it."""

TEXT_LIMIT = 500
"""Characters of a tag or parameter that MLflow takes everywhere."""

Point = tuple[str, float, int]
"""Name, value and step of a metric."""


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """A part of what an MLflow run holds.

    Attributes:
        dataset: Name, digest, source and profile of its dataset.
        files: Artifacts by name.
        left_out: A remark on each artifact that could not be made.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    dataset: Mapping[str, str] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def with_artifacts(self, made: Made) -> RunContent:
        """The same with artifacts; the tag ``bob.left_out`` tells what could not be made."""
        tags = {"bob.left_out": "; ".join(made.left_out)} if made.left_out else {}
        return replace(self, files=made.files, left_out=made.left_out, tags={**self.tags, **tags})


def experiment_name(scale: str, task: str) -> str:
    """The experiment of a task at a scale: what is compared shares one."""
    return f"bob/{scale}/{task}"


def run_name(case: Case) -> str:
    """Name of the run of one seed."""
    return f"{case.name}-s{case.seed}"


def started(case: Case, *, role: str, entry: str) -> RunContent:
    """What is known before a case runs."""
    return RunContent(
        tags={
            **case_tags(case),
            "bob.seed": str(case.seed),
            "bob.role": role,
            "bob.entry": entry,
            "bob.level": "case",
        },
        params={**_params(case), "seed": str(case.seed)},
        dataset=_dataset(case),
    )


def epoch(values: Mapping[str, float], step: int) -> tuple[Point, ...]:
    """The metrics of an epoch that ended, counted from 1."""
    return tuple((metric_name(name), float(value), step) for name, value in values.items())


def metric_name(name: str) -> str:
    """A metric's name as MLflow takes it: other characters, and parts of no name, become ``_``."""
    parts = re.sub(r"[^\w/.:-]", "_", name)[:_NAME_LIMIT].split("/")
    return "/".join(part if part.strip(".") else "_" for part in parts)


def finished(recorded: Recorded) -> RunContent:
    """What came out of one seed."""
    result = recorded.result
    reported = result.history[-1] if result.history else {}
    values = {name: value for name, value in result.metrics.items() if name not in reported}
    values |= {f"seconds_{phase}": value for phase, value in result.timings.items()}
    values["peak_memory_mb"] = result.peak_memory_mb
    tags = {f"env.{name}": value for name, value in result.environment.items()}
    tags |= {
        "bob.weights": result.weights_digest,
        "bob.data": result.data_digest,
        "bob.run_key": result.run_key,
        "bob.metrics": _names(result.metrics),
        "bob.test_size": str(size_behind(result)),
        "bob.seeded": str(result.case.seeded).lower(),
    }
    if result.case.backbone.licence:
        tags["bob.licence"] = result.case.backbone.licence
    if result.failure:
        tags["bob.failure"] = line(
            f"{result.failure.kind}: {result.failure.message}", limit=TEXT_LIMIT
        )
    worst = worst_class(result.files)
    if worst is not None:
        tags["bob.worst_class"] = worst
    chosen = [trial for trial in result.trials if trial.chosen]
    if len(chosen) == 1:
        tags["bob.chosen"] = chosen[0].label
    content = RunContent(tags=tags, metrics=epoch(values, 0))
    made = result_files(result)
    files = {**made.files, LEDGER_FILE: text_of(entry_record(recorded, {}))}
    return content.with_artifacts(replace(made, files=files))


def curve(recorded: Recorded) -> tuple[Point, ...]:
    """The metrics of every epoch, as they were told while the case ran."""
    return tuple(point for step, values in recorded.curve for point in epoch(values, step))


def judged(verdict: Verdict) -> RunContent:
    """What a verdict adds to the runs that it rests on: bands of every judged metric."""
    tags = {
        "bob.verdict": verdict.status.value,
        "bob.reason": verdict.reason,
        "bob.unchanged": str(verdict.unchanged).lower(),
        "bob.origin": verdict.origin,
        "mlflow.note.content": f"**{verdict.status.value}**: {markdown_text(verdict.reason)}",
    }
    values: dict[str, float] = {}
    if verdict.score is not None:
        score = verdict.score
        values = {
            "band_low": score.low, "band_high": score.high, "delta": score.delta, "z": score.z,
        }  # fmt: skip
    for comparison in verdict.deciding:
        values[f"{comparison.metric}_band_low"] = comparison.low
        values[f"{comparison.metric}_band_high"] = comparison.high
        values[f"{comparison.metric}_delta"] = comparison.delta
        if not comparison.exact:
            values[f"{comparison.metric}_z"] = comparison.z
    for published in verdict.published:
        values[f"published/{published.metric}"] = published.published
        values[f"published_delta/{published.metric}"] = published.delta
    if verdict.published:
        sources = dict.fromkeys(published.source for published in verdict.published)
        tags["bob.published"] = "; ".join(sources)
    return RunContent(tags=tags, metrics=epoch(values, 0))


def parent_of(recorded: Sequence[Recorded], verdict: Verdict, *, name: str) -> RunContent:
    """The run that stands for a case of several seeds: mean, spread, band, verdict, pictures.

    Args:
        recorded: One entry a seed, in the order they ran; at least two.
        verdict: What they mean together.
        name: Of the verdict in the ledger.
    """
    results = [entry.result for entry in recorded]
    case = results[0].case
    # a seed of the reference that was run again beside fresh ones is no part of their mean
    scored = [
        result
        for result in results
        if result.failure is None and (not verdict.scores or result.case.seed in verdict.scores)
    ]
    means, spreads = mean_and_spread(result.metrics for result in scored)
    judged_names = [metric.name for metric in case.judged]
    epochs = mean_curve(recorded)
    told = {name for name, _, _ in epochs}
    values = {
        **{name: value for name, value in means.items() if metric_name(name) not in told},
        **{f"{metric}_spread": spreads[metric] for metric in judged_names if metric in spreads},
        "seeds": float(len(scored)),
        "seconds_total": sum(result.timings.get("total", 0.0) for result in results),
        "peak_memory_mb": max(result.peak_memory_mb for result in results),
    }
    part = judged(verdict)
    tags = {
        **case_tags(case),
        "bob.role": recorded[0].role,
        "bob.level": "case",
        "bob.verdict_name": name,
        "bob.seeds": " ".join(str(result.case.seed) for result in results),
        "bob.metrics": _names(means),
        **part.tags,
    }

    def picture() -> bytes | None:
        from bob.artifacts.seeds import seeds_picture

        return seeds_picture(case, scored, verdict) if scored else None

    made = make({"verdict.json": lambda: verdict_file(verdict), "seeds.png": picture})
    content = RunContent(
        tags=tags,
        params={**_params(case), "seed": " ".join(str(result.case.seed) for result in results)},
        metrics=(*epochs, *epoch(values, 0), *part.metrics),
        dataset=_dataset(case),
    )
    return content.with_artifacts(made)


def mean_curve(recorded: Sequence[Recorded]) -> tuple[Point, ...]:
    """The mean over seeds of every epoch's metrics, of the epochs that all of them have."""
    scored = [entry for entry in recorded if entry.result.failure is None]
    points: list[Point] = []
    for together in zip(*(entry.curve for entry in scored), strict=False):
        steps = {step for step, _ in together}
        if len(steps) == 1:
            rows = [
                {name: value for name, value in row.items() if not name.startswith("system/")}
                for _, row in together
            ]
            points += epoch(mean_and_spread(rows)[0], steps.pop())
    return tuple(points)


def nested(parent: str) -> RunContent:
    """What makes the run of a seed one of several."""
    return RunContent(tags={"mlflow.parentRunId": parent, "bob.level": "seed"})


def tried(case: Case, trial: Trial, *, parent: str) -> RunContent:
    """The run of a setting of a grid that was tried, under its case's run."""
    tags = {
        **case_tags(case),
        "bob.seed": str(case.seed),
        "mlflow.parentRunId": parent,
        "bob.role": "trial",
        "bob.level": "trial",
        "bob.chosen": str(trial.chosen).lower(),
        **({"bob.group": trial.group} if trial.group else {}),
        **({"bob.failure": trial.failure} if trial.failure else {}),
    }
    params = {name: f"{value:g}" for name, value in trial.params.items()}
    params |= {"seed": str(case.seed)} | ({"group": trial.group} if trial.group else {})
    values = {**trial.metrics, "seconds_total": trial.seconds}
    return RunContent(tags=tags, params=params, metrics=epoch(values, 0))


def trial_name(case: Case, trial: Trial) -> str:
    """Name of the run of a tried setting."""
    return f"{run_name(case)}: {', '.join(filter(None, (trial.group, trial.label)))}"


def session_summary(
    table: str,
    rows: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    further: Mapping[str, bytes],
) -> RunContent:
    """What a session came to: tables as files and cases by verdict."""
    values = {f"cases_{name.replace(' ', '_')}": float(count) for name, count in counts.items()}
    files = {
        "summary.md": table.encode(errors="backslashreplace"),
        "summary.json": (json.dumps(list(rows), indent=1) + "\n").encode(),
        **further,
    }
    return RunContent(metrics=epoch(values, 0), files=files)


def case_tags(case: Case) -> dict[str, str]:
    """The axes a run is searched and compared by."""
    return {
        "bob.backbone": case.backbone.key,
        "bob.family": case.backbone.family,
        "bob.pretraining": case.backbone.pretraining,
        "bob.task": case.task,
        "bob.dataset": case.dataset.key,
        "bob.case": case.id,
        "bob.protocol": case.protocol,
        **({"bob.engine": case.engine} if case.engine else {}),
        **({"bob.variant": case.variant} if case.variant else {}),
    }


def mean_and_spread(
    metrics: Iterable[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation over seeds of every metric that all of them have."""
    rows = list(metrics)
    names = [name for name in rows[0] if all(name in row for row in rows)] if rows else []
    columns = {name: [row[name] for row in rows] for name in names}
    spreads = {
        name: math.sqrt(square_spread(values))
        for name, values in columns.items()
        if len(values) > 1
    }
    return {name: mean(values) for name, values in columns.items()}, spreads


def _names(metrics: Iterable[str]) -> str:
    """Metrics of a protocol as one tag."""
    return " ".join(map(metric_name, metrics))


def _params(case: Case) -> dict[str, str]:
    return {
        "backbone": case.backbone.key,
        "source": case.backbone.source,
        **{
            metric_name(f"arg.{name}"): str(value)
            for name, value in case.backbone.arguments.items()
        },
        **{name: str(value) for name, value in case.recipe.model_dump().items()},
        "dataset": case.dataset.key,
    }


def _dataset(case: Case) -> dict[str, str]:
    sizes = {"classes": case.dataset.classes, "test_images": case.dataset.test_size}
    return {
        "name": line(case.dataset.key, limit=TEXT_LIMIT),
        "digest": (case.dataset.sha256 or case.protocol)[:8],
        "source": line(json.dumps(case.dataset.identity), limit=_SOURCE_LIMIT),
        "profile": json.dumps(sizes),
    }
