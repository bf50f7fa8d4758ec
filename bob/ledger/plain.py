"""A case, a result and a verdict as plain data, and back. Nothing here touches a disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from numpy.typing import NDArray

from bob.artifacts.files import CONTRIBUTIONS, arrays_of
from bob.case import (
    Case,
    Comparison,
    Contributions,
    DetectionOutcomes,
    Failure,
    ImageList,
    Outcomes,
    PublishedComparison,
    QueryOutcomes,
    Result,
    Status,
    Trial,
    Verdict,
)
from bob.catalog.schema import BackboneEntry, DatasetEntry
from bob.errors import BobError, unknown
from bob.ledger.forms import named, number, records, text, texts, truth, whole
from bob.protocols import PROTOCOLS

Arrays = Mapping[str, NDArray[Any]]


def jsonable(value: Any) -> Any:
    """JSON has no NaN and no infinity; they are written as the strings that ``float`` reads."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    if getattr(value, "ndim", None) == 0:  # a number of NumPy's or torch's
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def case_to_plain(case: Case) -> dict[str, Any]:
    """A case as plain data; ``case_from_plain`` reads it."""
    return {
        "id": case.id,
        "protocol": case.protocol,
        "backbone": case.backbone.model_dump(mode="json"),
        "task": case.task,
        "dataset": case.dataset.model_dump(mode="json"),
        "scale": case.scale,
        "seed": case.seed,
        "recipe": case.recipe.model_dump(mode="json"),
        "margins": dict(case.margins),
        "twin": case.twin,
        "size": case.size,
        "reference_seeds": case.reference_seeds,
    }


def case_from_plain(plain: Mapping[str, Any]) -> Case:
    """The case of ``case_to_plain``.

    Raises:
        BobError: Its protocol is not installed.
        ValueError: The data are not those of a case.
    """
    if plain["task"] not in PROTOCOLS:
        raise unknown("protocol", plain["task"], PROTOCOLS)
    return Case(
        backbone=BackboneEntry.model_validate(plain["backbone"]),
        task=plain["task"],
        dataset=DatasetEntry.model_validate(plain["dataset"]),
        scale=plain["scale"],
        recipe=PROTOCOLS[plain["task"]].recipe.model_validate(plain["recipe"]),
        seed=plain["seed"],
        margins=dict(plain["margins"]),
        reference_seeds=plain["reference_seeds"],
        twin=plain.get("twin", ""),
        size=plain.get("size", ""),
    )


def result_to_plain(result: Result) -> dict[str, Any]:
    """A result as JSON takes it: everything but arrays and files."""
    return {
        "run_key": result.run_key,
        "metrics": jsonable(result.metrics),
        "history": jsonable(result.history),
        "timings": jsonable(result.timings),
        "peak_memory_mb": result.peak_memory_mb,
        "environment": dict(result.environment),
        "weights_digest": result.weights_digest,
        "data_digest": result.data_digest,
        "remarks": list(result.remarks),
        "trials": [jsonable(asdict(trial)) for trial in result.trials],
        "image_size": result.image_size,
        "classes": result.classes,
        "test_size": result.test_size,
        "failure": asdict(result.failure) if result.failure else None,
        "class_names": list(result.outcomes.class_names) if result.outcomes else None,
        "temperature": result.outcomes.temperature if result.outcomes else None,
        "contributions": _lists(result.contributions),
        "detections": _lists(result.detections),
    }


def result_from_plain(
    case: Case, plain: Mapping[str, Any], arrays: Arrays, files: Mapping[str, bytes]
) -> Result:
    """The result of ``result_to_plain`` with its arrays and files."""
    return Result(
        case=case,
        run_key=plain["run_key"],
        metrics=_numbers(plain["metrics"]),
        history=tuple(_numbers(values) for values in plain["history"]),
        outcomes=_outcomes(plain["class_names"], plain.get("temperature"), arrays),
        queries=_queries(arrays),
        contributions=_contributions(plain.get("contributions"), arrays),
        detections=_detections(plain.get("detections"), arrays),
        timings=_numbers(plain["timings"]),
        peak_memory_mb=float(plain["peak_memory_mb"]),
        environment=dict(plain["environment"]),
        weights_digest=plain["weights_digest"],
        data_digest=plain["data_digest"],
        files=dict(files),
        remarks=tuple(plain["remarks"]),
        trials=tuple(
            Trial(
                **{
                    **trial,
                    "params": _numbers(trial["params"]),
                    "metrics": _numbers(trial["metrics"]),
                }
            )
            for trial in plain["trials"]
        ),
        image_size=plain["image_size"],
        classes=plain["classes"],
        test_size=plain["test_size"],
        failure=Failure(**plain["failure"]) if plain["failure"] else None,
    )


def result_arrays(result: Result) -> dict[str, NDArray[Any]]:
    """The arrays of a result by name: outcomes per sample, query and detection, contributions."""
    arrays: dict[str, NDArray[Any]] = {}
    for part in (result.outcomes, result.queries, result.contributions, result.detections):
        if part is not None:
            arrays |= arrays_of(part)
    return arrays


def verdict_to_plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data; ``verdict_from_plain`` reads it."""
    plain: dict[str, Any] = jsonable(asdict(verdict))
    return plain


def verdict_from_plain(plain: Mapping[str, Any]) -> Verdict:
    """The verdict of ``verdict_to_plain``.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: The data are not those
            of a verdict.
    """
    together = plain.get("together")  # verdicts of earlier versions have none
    scores = named(plain, "scores")
    return Verdict(
        status=Status(plain["status"]),
        reason=text(plain, "reason"),
        scores={int(seed): number(scores, seed) for seed in scores},
        comparisons=tuple(map(_comparison, records(plain, "comparisons"))),
        together=_comparison(together) if together else None,
        reference_seeds=tuple(whole(seed, "a seed") for seed in plain["reference_seeds"]),
        origin=text(plain, "origin"),
        stage=whole(plain["stage"], "stage"),
        detectable=None if plain.get("detectable") is None else number(plain, "detectable"),
        guards_little=_truth(plain, "guards_little"),
        unchanged=_truth(plain, "unchanged"),
        stale=_truth(plain, "stale"),
        warnings=texts(plain, "warnings"),
        published=tuple(map(_published, records(plain, "published"))),
    )


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    return Comparison(
        metric=text(entry, "metric"),
        value=number(entry, "value"),
        low=number(entry, "low"),
        high=number(entry, "high"),
        reference=number(entry, "reference"),
        z=number(entry, "z"),
        status=Status(entry["status"]),
        improved=_truth(entry, "improved"),
        exact=_truth(entry, "exact"),
    )


def _published(entry: Mapping[str, Any]) -> PublishedComparison:
    return PublishedComparison(
        metric=text(entry, "metric"),
        value=number(entry, "value"),
        published=number(entry, "published"),
        width=number(entry, "width"),
        source=text(entry, "source"),
    )


def _truth(entry: Mapping[str, Any], name: str) -> bool:
    return truth(entry.get(name, False), name)  # earlier versions tell fewer


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _outcomes(
    class_names: list[str] | None, temperature: float | None, arrays: Arrays
) -> Outcomes | None:
    if class_names is None:
        return None
    return Outcomes(
        class_names=tuple(class_names), temperature=temperature, **_fields(Outcomes, arrays)
    )


def _queries(arrays: Arrays) -> QueryOutcomes | None:
    return QueryOutcomes(**_fields(QueryOutcomes, arrays)) if "first_ranks" in arrays else None


def _lists(part: Contributions | DetectionOutcomes | None) -> list[dict[str, Any]] | None:
    return [asdict(images) for images in part.lists] if part else None


def _contributions(lists: list[dict[str, Any]] | None, arrays: Arrays) -> Contributions | None:
    if lists is None:  # of results of earlier versions too
        return None
    if CONTRIBUTIONS not in arrays:
        raise BobError(f"arrays.npz lacks {CONTRIBUTIONS}")
    return Contributions(
        values=arrays[CONTRIBUTIONS], lists=tuple(ImageList(**images) for images in lists)
    )


def _detections(lists: list[dict[str, Any]] | None, arrays: Arrays) -> DetectionOutcomes | None:
    if lists is None:  # of results of earlier versions too
        return None
    return DetectionOutcomes(
        lists=tuple(ImageList(**images) for images in lists), **_fields(DetectionOutcomes, arrays)
    )


def _fields(kind: type, arrays: Arrays) -> dict[str, Any]:
    names = [field.name for field in fields(kind) if "NDArray" in str(field.type)]
    optional = {field.name for field in fields(kind) if field.default is None}
    absent = [name for name in names if name not in arrays and name not in optional]
    if absent:
        raise BobError(f"arrays.npz lacks {', '.join(absent)}")
    return {name: arrays[name] for name in names if name in arrays}
