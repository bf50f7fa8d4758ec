"""A result as files: JSON, per-sample CSV and pictures."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bob.artifacts.classes import worst_class
from bob.artifacts.making import Made, make
from bob.case import (
    Content,
    Contributions,
    DetectionOutcomes,
    Outcomes,
    QueryOutcomes,
    Result,
    Verdict,
)
from bob.tabular import csv_bytes

Part = Outcomes | QueryOutcomes | Contributions | DetectionOutcomes
"""Of a result, what is kept as arrays."""

CONTRIBUTIONS = "contributions"
"""Name of the array of ``Contributions``."""


def _plain(value: Any) -> Any:
    """JSON has no NaN; strings keep it readable."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def result_record(result: Result) -> dict[str, Any]:
    """A result as plain data: everything but the per-sample outcomes."""
    case = result.case
    record: dict[str, Any] = {
        "case": case.id,
        "protocol": case.protocol,
        "run_key": result.run_key,
        "backbone": case.backbone.model_dump(mode="json"),
        "task": case.task,
        "dataset": case.dataset.model_dump(mode="json"),
        "scale": case.scale,
        "seed": case.seed,
        "recipe": case.recipe.model_dump(mode="json"),
        "metrics": dict(result.metrics),
        "history": [dict(values) for values in result.history],
        "timings": dict(result.timings),
        "peak_memory_mb": result.peak_memory_mb,
        "environment": dict(result.environment),
        "weights_digest": result.weights_digest,
        "data_digest": result.data_digest,
        "image_size": result.image_size,
        "worst_class": worst_class(result.files),
        "remarks": list(result.remarks),
        "trials": [asdict(trial) for trial in result.trials],
        "failure": None,
    }
    if result.failure:
        record["failure"] = {"kind": result.failure.kind, "message": result.failure.message}
    plain: dict[str, Any] = _plain(record)
    return plain


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data."""
    return {
        "status": verdict.status.value,
        "reason": verdict.reason,
        "scores": {str(seed): score for seed, score in verdict.scores.items()},
        "bands": {
            comparison.metric: {
                "value": comparison.value,
                "low": comparison.low,
                "high": comparison.high,
                "reference": comparison.reference,
                "z": None if comparison.exact else comparison.z,
                "status": comparison.status.value,
            }
            for comparison in verdict.deciding
        },
        "reference_seeds": list(verdict.reference_seeds),
        "origin": verdict.origin,
        "stage": verdict.stage,
        "unchanged": verdict.unchanged,
        "detectable": verdict.detectable,
        "warnings": list(verdict.warnings),
        "published": {
            published.metric: {
                "value": published.value,
                "published": published.published,
                "width": published.width,
                "agrees": published.agrees,
                "source": published.source,
            }
            for published in verdict.published
        },
    }


def sample_table(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Per-sample outcomes as CSV, one row a sample in the split's order.

    Args:
        arrays: Those of ``Outcomes``, by name.
    """
    shown = arrays["top_classes"].shape[1]
    header = ["sample", "target", "correct", "target_probability"]
    for place in range(1, shown + 1):
        header += [f"class_{place}", f"probability_{place}"]
    columns = zip(
        arrays["targets"].tolist(),
        np.exp(arrays["target_log_probabilities"]).tolist(),
        arrays["top_classes"].tolist(),
        arrays["top_probabilities"].tolist(),
        strict=True,
    )
    rows = []
    for sample, (target, probability, classes, probabilities) in enumerate(columns):
        row: list[object] = [sample, target, int(target == classes[0]), f"{probability:.5g}"]
        for label, share in zip(classes, probabilities, strict=True):
            row += [label, f"{share:.5f}"]
        rows.append(row)
    return csv_bytes(header, rows)


def detection_table(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Detections as CSV: at how many of the ten IoU thresholds each is right, and ignored.

    Args:
        arrays: Those of ``DetectionOutcomes``, by name.
    """
    bits = [
        f"{kind}_{name}"
        for kind in ("box", "mask")
        for name in ("matched", "ignored")
        if f"{kind}_{name}" in arrays
    ]
    columns = zip(
        arrays["images"].tolist(),
        arrays["labels"].tolist(),
        (f"{score:.5g}" for score in arrays["scores"].tolist()),
        *((int(value).bit_count() for value in arrays[name].tolist()) for name in bits),
        strict=True,
    )
    return csv_bytes(("image", "class", "score", *bits), columns)


def arrays_of(part: Part) -> dict[str, NDArray[Any]]:
    """The arrays of outcomes per sample, query or detection, or of contributions, by name."""
    if isinstance(part, Contributions):
        return {CONTRIBUTIONS: part.values}
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as a compressed ``.npz`` file."""
    buffer = io.BytesIO()
    save: Any = np.savez_compressed  # its types take array names for options
    save(buffer, **arrays)
    return buffer.getvalue()


def result_files(result: Result) -> Made:
    """Every file of a result; one that cannot be made is left out and told."""
    contents: dict[str, Content] = {
        "result.json": lambda: _json(result_record(result)),
        "outcomes.npz": lambda: _arrays(result.outcomes),
        "queries.npz": lambda: _arrays(result.queries),
        "contributions.npz": lambda: _arrays(result.contributions),
        "detections.npz": lambda: _arrays(result.detections),
        "confusion_matrix.png": lambda: _confusion_matrix(result),
        "learning_curve.png": lambda: _learning_curve(result),
        **result.files,
    }
    if result.failure and result.failure.traceback:
        contents["traceback.txt"] = result.failure.traceback.encode(errors="backslashreplace")
    return make(contents)


def verdict_file(verdict: Verdict) -> bytes:
    """``verdict_record`` as JSON."""
    return _json(verdict_record(verdict))


def _json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def _arrays(part: Part | None) -> bytes | None:
    return packed(arrays_of(part)) if part is not None else None


def _confusion_matrix(result: Result) -> bytes | None:
    from bob.artifacts.plots import confusion_matrix

    return confusion_matrix(result)


def _learning_curve(result: Result) -> bytes | None:
    from bob.artifacts.plots import learning_curve

    return learning_curve(result)
