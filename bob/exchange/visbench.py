"""VisBench's records: a JSON object a line, as its ``results/visbench.jsonl`` has them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bob.errors import BobError, unknown
from bob.exchange.checks import refusal
from bob.json_data import parse_json

NEWEST_SCHEMA = 9
"""Of VisBench 0.27. Its schema only grows, so that older records are read as well."""

_TEXTS = ("backbone", "backbone_key", "task", "level", "dataset", "split", "pooling")
_NEEDED = (*_TEXTS, "feature_mode", "metrics", "timestamp", "visbench_version", "schema_version")
_OPTIONAL = (
    "dataset_size", "dataset_fingerprint", "pooling_requested", "task_params", "dataset_params",
    "layer", "layers", "finetune", "training", "hardware", "seed", "duration_seconds", "notes",
)  # fmt: skip
_FIELDS = {*_NEEDED, *_OPTIONAL}
_OF_THE_RUN = {
    "metrics", "timestamp", "visbench_version", "schema_version", "training", "hardware",
    "duration_seconds", "notes", "pooling",
}  # fmt: skip
"""What does not tell what was run; ``pooling`` is what the backbone made of what was asked for."""
_METRICS = {("retrieval", "mAP"): "map"}
"""Where a metric of the suite has another name there."""

SUPERSEDED = "a later line of the file holds the same metric of the same run"


def visbench_rows(
    path: Path, lines: Iterable[tuple[int, str]]
) -> tuple[list[tuple[int, dict[str, str]]], Counter[str]]:
    """A row with one value for each metric of each record, with the number of its line.

    The file is only ever added to, so that of a metric of the same run the last line counts.

    Returns:
        Rows with the columns of ``LONG_COLUMNS``, and how many values are left out, by why.

    Raises:
        BobError: A line is no record of a schema that is known.
    """
    newest: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}
    left_out: Counter[str] = Counter()
    for number, line in lines:
        record = _record(path, number, line)
        run = json.dumps({**record, **dict.fromkeys(_OF_THE_RUN)}, sort_keys=True)
        for row in _rows(record):
            left_out[SUPERSEDED] += (run, row["metric"]) in newest
            newest[run, row["metric"]] = number, row
    return list(newest.values()), +left_out


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise BobError(f"{path}, row {number}: it is no JSON ({error}).") from None
    if not isinstance(record, dict):
        raise BobError(f"{path}, row {number}: it is no JSON object.")
    version = record.get("schema_version")
    if type(version) is not int or not 1 <= version <= NEWEST_SCHEMA:
        why = f"{version!r} is no schema that is read, which are 1 to {NEWEST_SCHEMA}"
        raise refusal(str(path), number, "schema_version", why)
    for name in record:
        if name not in _FIELDS:
            raise BobError(f"{path}, row {number}: {unknown('field', name, _FIELDS)}")
    for name in _NEEDED:
        if name not in record:
            raise refusal(str(path), number, name, "it is not there")
    for name in (*_TEXTS, "feature_mode", "timestamp", "visbench_version"):
        if not isinstance(record[name], str):
            raise refusal(str(path), number, name, f"{record[name]!r} is no text")
    for name in ("task_params", "dataset_params", "finetune"):
        if not isinstance(record.get(name) or {}, dict):
            raise refusal(str(path), number, name, f"{record[name]!r} is no JSON object")
    metrics = record["metrics"]
    if not isinstance(metrics, dict) or not metrics:
        raise refusal(str(path), number, "metrics", "it holds no metric")
    for metric, value in metrics.items():
        if type(value) not in (int, float):
            raise refusal(str(path), number, "metrics", f"{metric} is {value!r} and no number")
    full: dict[str, Any] = {**dict.fromkeys(_OPTIONAL), **record}
    full["seed"] = full["seed"] or 0
    # before schema 7 what was asked for is not told
    full["pooling_requested"] = full["pooling_requested"] or full["pooling"]
    return full


def _rows(record: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    layer = record["layer"] if record["layers"] is None else record["layers"]
    common = {
        "backbone": record["backbone"],
        "backbone_key": record["backbone_key"],
        "task": record["task"],
        "dataset": record["dataset"],
        "setting": _setting(record),
        "level": record["level"],
        "split": record["split"],
        "pooling": _text(record["pooling_requested"]),
        "feature_mode": record["feature_mode"],
        "layer": _text(layer),
        "seed": _text(record["seed"]),
        "dataset_size": _text(record["dataset_size"]),
        "dataset_fingerprint": _text(record["dataset_fingerprint"]),
        "source": f"VisBench {record['visbench_version']}",
        "timestamp": record["timestamp"],
    }
    for metric, value in record["metrics"].items():
        named = _METRICS.get((record["task"], metric), metric)
        yield {**common, "metric": named, "value": repr(value)}


def _setting(record: Mapping[str, Any]) -> str:
    """How it was run, in words."""
    words = [
        f"{name} {_text(value)}"
        for part in ("task_params", "dataset_params", "finetune")
        for name, value in sorted((record[part] or {}).items())
    ]
    return ", ".join(["frozen" if record["finetune"] is None else "fine-tuned", *words])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
