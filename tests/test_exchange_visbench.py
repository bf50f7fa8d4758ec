"""VisBench's records: what becomes of each field, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bob.catalog import load_catalog
from bob.cli import main
from bob.exchange.bundle import read_bundle
from bob.exchange.published import read_records
from bob.exchange.visbench import SUPERSEDED
from bob.report.sources import current

RECORD: dict[str, Any] = {
    "backbone": "dinov2_vits14", "backbone_key": "dinov2_vits14@224", "dataset": "CUB-200-2011",
    "dataset_fingerprint": "0123abcd", "dataset_params": {}, "dataset_size": 5794,
    "duration_seconds": 1.5, "feature_mode": "pooled", "finetune": None,
    "hardware": {"device": "cpu"}, "layer": 11, "layers": None, "level": "high",
    "metrics": {"mAP": 0.31, "recall@1": 0.5}, "notes": None, "pooling": "cls",
    "pooling_requested": "default", "schema_version": 9, "seed": 3, "split": "test",
    "task": "retrieval", "task_params": {}, "timestamp": "2026-09-01T10:00:00+00:00",
    "training": None, "visbench_version": "0.27.0",
}  # fmt: skip
"""All fields of schema 9."""
OLDEST = {
    name: value for name, value in RECORD.items()
    if name not in {
        "dataset_fingerprint", "dataset_params", "dataset_size", "finetune", "hardware", "layers",
        "pooling_requested", "task_params", "training",
    }
} | {"schema_version": 1}  # fmt: skip


def records(folder: Path, *given: object) -> Path:
    path = folder / "visbench.jsonl"
    lines = (line if isinstance(line, str) else json.dumps(line) for line in given)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_what_becomes_of_a_record(tmp_path: Path) -> None:
    trained = {
        **RECORD, "task": "classification", "metrics": {"top1": 0.8}, "layer": None,
        "layers": [5, 11], "task_params": {"lr": 0.01, "head": "linear"},
        "finetune": {"blocks": 2}, "seed": None,
    }  # fmt: skip
    path = records(tmp_path, RECORD, "", trained, OLDEST | {"backbone": "resnet50"})
    taken = read_records(path, load_catalog())
    rows = {(row.backbone, row.metric): row for row in taken.bundle.scores}
    score = rows["dinov2_vits14", "map"]
    assert (score.setting, score.value, score.is_score) == ("retrieval/cub200", 0.31, True)
    assert (score.seed, score.test_size, score.data) == (3, 5794, "0123abcd")
    assert (score.weights, score.role) == ("dinov2_vits14@224", "published")
    assert score.environment == "source=VisBench 0.27.0 2026-09-01T10:00:00+00:00"
    assert score.protocol == (
        "published: frozen, level high, split test, pooling default, feature_mode pooled, layer 11"
    )
    probed = rows["dinov2_vits14", "top1"]
    assert (probed.task, probed.unit, probed.seed) == ("classification", "", 0)
    assert probed.protocol.startswith("published: fine-tuned, head linear, lr 0.01, blocks 2,")
    assert probed.protocol.endswith("layer [5, 11]")
    old = rows["resnet50", "map"]
    assert (old.test_size, old.data) == (0, "")
    assert "pooling cls" in old.protocol
    assert taken.apart == {
        "retrieval recall@1 is no metric that the suite judges": 2,
        "classification top1 is no metric that the suite judges": 1,
    }


def test_the_last_line_of_a_run_counts(tmp_path: Path) -> None:
    again = {
        **RECORD, "metrics": {"mAP": 0.32, "recall@1": 0.5}, "hardware": {"device": "cuda"},
        "timestamp": "2026-09-02T10:00:00+00:00", "duration_seconds": 0.5,
    }  # fmt: skip
    other = {**RECORD, "seed": 4}
    taken = read_records(records(tmp_path, RECORD, other, again), load_catalog())
    found = {row.seed: row.value for row in taken.bundle.scores if row.metric == "map"}
    assert found == {3: 0.32, 4: 0.31}
    assert taken.apart[SUPERSEDED] == 2


def test_a_later_line_with_fewer_metrics_replaces_those_alone(tmp_path: Path) -> None:
    again = {**RECORD, "metrics": {"mAP": 0.32}, "timestamp": "2026-09-02T10:00:00+00:00"}
    taken = read_records(records(tmp_path, RECORD, again), load_catalog())
    assert {row.metric: row.value for row in taken.bundle.scores} == {"map": 0.32, "recall@1": 0.5}
    assert taken.apart[SUPERSEDED] == 1


def test_of_runs_of_other_data_the_newest_stands_on_the_board(tmp_path: Path) -> None:
    old = {**RECORD, "dataset_fingerprint": None, "metrics": {"mAP": 0.2}}
    new = {**RECORD, "metrics": {"mAP": 0.3}, "timestamp": "2026-09-02T10:00:00+00:00"}
    for given in ((old, new), (new, old)):
        taken = read_records(records(tmp_path, *given), load_catalog())
        assert len(taken.bundle.scores) == 2
        (counting,) = current(taken.bundle.scores)
        assert (counting.value, counting.time) == (0.3, new["timestamp"])


def test_a_run_without_a_seed_is_that_of_seed_0(tmp_path: Path) -> None:
    again = {**RECORD, "seed": 0, "metrics": {"mAP": 0.32, "recall@1": 0.4}}
    taken = read_records(records(tmp_path, {**RECORD, "seed": None}, again), load_catalog())
    assert sorted((row.seed, row.value) for row in taken.bundle.scores) == [(0, 0.32), (0, 0.4)]


def test_records_enter_a_board_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    records(tmp_path, RECORD, {**RECORD, "backbone": "resnet50", "metrics": {"mAP": 0.2}})
    assert main(["import", "visbench.jsonl"]) == 0
    assert main(["report", "--from", "imported:visbench", "--scale", "full", "-o", "-"]) == 0
    assert "| dinov2_vits14 |" in capsys.readouterr().out
    assert main(["export", "--from", "imported:visbench", "--scale", "full", "-o", "out"]) == 0
    assert main(["import", "out", "--as", "again"]) == 0
    assert read_bundle(tmp_path / "out") == read_bundle(tmp_path / "mlruns/imported/again")


WRONG = {
    "no json": ('{"backbone": ', "row 2: it is no JSON"),
    "no object": ("[1]", "row 2: it is no JSON object"),
    "twice": ('{"seed": 1, "seed": 2}', "row 2: it is no JSON (the key 'seed' is given twice"),
    "newer": ({**RECORD, "schema_version": 10}, "row 2, column schema_version: 10 is no schema"),
    "no version": ({"backbone": "a"}, "column schema_version: None is no schema"),
    "field": ({**RECORD, "dataset_siz": 1}, "Did you mean 'dataset_size'"),
    "missing": ({k: v for k, v in RECORD.items() if k != "split"}, "column split: it is not there"),
    "type": ({**RECORD, "task": 3}, "column task: 3 is no text"),
    "no metrics": ({**RECORD, "metrics": {}}, "column metrics: it holds no metric"),
    "text": ({**RECORD, "metrics": {"mAP": "0.3"}}, "mAP is '0.3' and no number"),
    "truth": ({**RECORD, "metrics": {"mAP": True}}, "mAP is True and no number"),
    "percent": ({**RECORD, "metrics": {"mAP": 31.0}, "seed": 5}, "31.0 is no share of 1"),
    "nan": ({**RECORD, "metrics": {"mAP": float("nan")}}, "'nan' is no number"),
    "parameters": ({**RECORD, "task_params": [1]}, "column task_params: [1] is no JSON object"),
    "seed": ({**RECORD, "seed": 0.5}, "column seed: '0.5' is no whole number"),
    "nobody": ({**RECORD, "backbone": ""}, "column backbone: it is empty"),
    "blank": ({**RECORD, "backbone": " \t"}, "column backbone: it is empty"),
    "zero": ({**RECORD, "backbone": "a\0b"}, "column backbone: it holds a zero byte"),
    "half": ({**RECORD, "dataset": "\ud800"}, "column dataset: '\\ud800' is no text that UTF-8"),
    "half told": ({**RECORD, "task_params": {"a": "\udfff"}}, "column protocol: "),
}  # fmt: skip


@pytest.mark.parametrize(("line", "told"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_record_is_refused(
    tmp_path: Path, line: object, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    records(tmp_path, {**RECORD, "seed": 7}, line)
    assert main(["import", "visbench.jsonl"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bob: visbench.jsonl, row 2")
    assert told in error
    assert not (tmp_path / "mlruns").exists()
