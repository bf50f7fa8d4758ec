"""Records of the shared schema of Every Eval Ever, version 0.3.0."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

from bob import __version__
from bob.exchange.contents import Asker, Cell, Contents, Subject
from bob.hashing import digest_of, own_file_name
from bob.intervals import wilson

SCHEMA_VERSION = "0.3.0"
COLLECTION = "battle-of-backbones"
UNKNOWN = "unknown"

_BOUNDS: dict[str, tuple[float | str, float | str]] = {
    "proportion": (0, 1), "bounded": (0, 1), "positive": (0, "Infinity"),
    "real": ("-Infinity", "Infinity"),
}  # fmt: skip


def record(told: Contents, backbone: str, asker: Asker, *, now: int) -> tuple[str, str]:
    """Path below the output folder, and JSON, of a backbone's record.

    Args:
        told: What was measured.
        backbone: One of it that has cells.
        asker: Its creator is the organisation that the schema asks for.
        now: Seconds since 1970.
    """
    subject = told.subjects[backbone]
    cells = [cell for cell in told.cells[backbone] if math.isfinite(cell.value)]
    model = subject.model or own_file_name(backbone)
    owner, name = asker.developer or UNKNOWN, model
    if subject.model:
        owner, _, name = model.partition("/")
    owner = own_file_name(owner)  # the schema's readers look for a model by its path
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{COLLECTION}-{told.scale}/{model}/{now}",
        "retrieved_timestamp": str(now),
        "source_metadata": {
            "source_name": f"Battle of the Backbones as a test suite, scale {told.scale}",
            "source_type": "evaluation_run",
            "source_organization_name": asker.creator,
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "battle-of-backbones", "version": _versions(cells)},
        "model_info": _model(subject, model, owner),
        "evaluation_results": [_result(cell) for cell in cells],
    }
    if asker.url:
        document["source_metadata"]["source_organization_url"] = asker.url
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    folder = f"data/{COLLECTION}/{owner}/{own_file_name(name)}"
    return f"{folder}/{_uuid(document)}.json", text


def _uuid(document: dict[str, Any]) -> str:
    return str(uuid.UUID(hex=digest_of(document, length=32), version=4))


def _versions(cells: list[Cell]) -> str:
    return ", ".join(sorted({cell.row.version for cell in cells} - {""})) or __version__


def _model(subject: Subject, model: str, owner: str) -> dict[str, Any]:
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "open_weights" if subject.url else "unknown",
        "architecture": subject.architecture,
        "family": subject.family,
        "pretraining": subject.pretraining,
        "licence": subject.licence,
        "url": subject.url,
    }
    return {
        "name": subject.backbone,
        "id": model,
        "developer": owner,
        "additional_details": {name: text for name, text in details.items() if text},
    }


def _result(cell: Cell) -> dict[str, Any]:
    row = cell.row
    low, high = _BOUNDS[row.unit]
    data = {"digest": row.data} if row.data else {}
    size = {"test_images_or_queries": str(row.test_size)} if row.test_size else {}
    result: dict[str, Any] = {
        "evaluation_result_id": digest_of([row.setting, row.metric, row.protocol, row.backbone]),
        "evaluation_name": f"{row.setting} {row.metric}",
        "source_data": {
            "dataset_name": row.dataset, "source_type": "other", "additional_details": data | size,
        },
        "metric_config": {
            "metric_id": f"{COLLECTION}.{row.task}.{row.metric}",
            "metric_name": row.metric,
            "metric_unit": row.unit,
            "lower_is_better": not row.higher_is_better,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
            "additional_details": {"protocol": row.protocol, "scale": row.scale},
        },
        "score_details": _score(cell),
    }  # fmt: skip
    if row.time:
        result["evaluation_timestamp"] = row.time
    return result


def _score(cell: Cell) -> dict[str, Any]:
    row = cell.row
    # rounding of a metric that lies at the end of its unit
    value = min(max(cell.value, 0.0), 1.0) if _BOUNDS[row.unit] == (0, 1) else cell.value
    value = max(value, 0.0) if row.unit == "positive" else value
    seeds = "; ".join(f"{seed}={number!r}" for seed, number in cell.by_seed)
    score: dict[str, Any] = {"score": value, "details": {"value_by_seed": seeds}}
    if row.unit == "proportion" and row.test_size and len(cell.by_seed) == 1:
        low, high = wilson(value, row.test_size)
        score["uncertainty"] = {
            "num_samples": row.test_size,
            "confidence_interval": {
                "lower": low, "upper": high, "confidence_level": 0.95,
                "method": "Wilson, over test images",
            },
        }  # fmt: skip
    return score
