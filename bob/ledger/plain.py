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
    """The verdict of ``verdict_to_plain``."""
    comparisons = tuple(_comparison(entry) for entry in plain["comparisons"])
    together = plain.get("together")  # verdicts of earlier versions have none
    return Verdict(
        status=Status(plain["status"]),
        reason=plain["reason"],
        scores={int(seed): float(score) for seed, score in plain["scores"].items()},
        comparisons=comparisons,
        together=_comparison(together) if together else None,
        reference_seeds=tuple(plain["reference_seeds"]),
        origin=plain["origin"],
        stage=plain["stage"],
        detectable=_number(plain.get("detectable")),
        guards_little=plain.get("guards_little", False),
        unchanged=plain.get("unchanged", False),
        stale=plain["stale"],
        warnings=tuple(plain["warnings"]),
        published=tuple(PublishedComparison(**_floats(entry)) for entry in plain["published"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    return Comparison(**{**_floats(entry), "status": Status(entry["status"])})


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _floats(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that were written as strings because JSON lacks them."""
    special = ("nan", "inf", "-inf")
    return {key: float(value) if value in special else value for key, value in entry.items()}


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
