"""Hugging Face model cards: front matter with ``model-index``."""

from __future__ import annotations

import math
from typing import Any

import yaml

from bob.exchange.contents import Asker, Cell, Contents
from bob.kinds import DataKind
from bob.protocols import PROTOCOLS

_TASKS: dict[DataKind, tuple[str, str]] = {
    "classification": ("image-classification", "Image Classification"),
    "multilabel": ("image-classification", "Image Classification"),
    "shift": ("image-classification", "Image Classification"),
    "retrieval": ("image-feature-extraction", "Image Feature Extraction"),
    "detection": ("object-detection", "Object Detection"),
    "detection_shift": ("object-detection", "Object Detection"),
}

_LICENCES = frozenset(
    ("apache-2.0", "mit", "bsd-3-clause", "cc-by-nc-4.0", "cc-by-4.0", "creativeml-openrail-m",
     "apple-ascl")
)  # fmt: skip
"""Licences of weights that the hub knows under the catalog's names."""


def model_index(told: Contents, backbone: str, asker: Asker) -> str:
    """The card of a backbone: front matter alone, for whoever has the repository.

    Args:
        told: What was measured.
        backbone: One of it that has cells.
        asker: Which datasets of the hub ours are.
    """
    subject = told.subjects[backbone]
    front: dict[str, Any] = {}
    if subject.licence.lower() in _LICENCES:
        front["license"] = subject.licence.lower()
    elif subject.licence:
        front["license"] = "other"
        front["license_name"] = subject.licence
    front["model-index"] = [
        {
            "name": backbone,
            "results": [
                _result(cell, asker) for cell in told.cells[backbone] if math.isfinite(cell.value)
            ],
        }
    ]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _result(cell: Cell, asker: Asker) -> dict[str, Any]:
    row = cell.row
    spec = PROTOCOLS.get(row.task)
    kind, name = _TASKS[spec.data] if spec else (row.task, row.task)
    hub = asker.benchmarks.get(row.setting) or asker.benchmarks.get(row.dataset)
    dataset: dict[str, Any] = {"type": hub.id if hub else row.dataset, "name": row.dataset}
    if row.data:
        dataset["args"] = {"digest": row.data}
    metric: dict[str, Any] = {
        "type": row.metric,
        "name": f"{row.setting} {row.metric}",
        "value": cell.value,
        "args": {"protocol": row.protocol, "scale": row.scale, "seeds": len(cell.by_seed)},
    }
    return {
        "task": {"type": kind, "name": f"{name}, {row.task}"},
        "dataset": dataset,
        "metrics": [metric],
    }
