"""Cards and metadata of an export, held against the packages that read them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries

from bob.catalog import Catalog
from bob.cli import main
from bob.exchange.columns import OUTCOMES, SCORES, WORDS, schema_of
from bob.hashing import digest_of_file
from bob.ledger import Ledger
from tests.test_compare_command import ledger, ran, right

__all__ = ["ledger"]
MEASURED = Path(__file__).parents[1] / "bob" / "references" / "measured"
ODD = "../é: [b]|`c`"


@pytest.fixture
def run(ledger: Ledger, catalog: Catalog) -> Ledger:
    good, bad = right(597, 0.9), right(597, 0.7, 1)
    ran(ledger, catalog, "first", 1, a=("knn", [good]), resnet50_a1_in1k=("knn", [bad]))
    ran(ledger, catalog, "first", 1, c=("finetune", [right(597, 0.8, n) for n in range(3)]))
    (recorded,) = [entry for entry in ledger.entries() if entry.result.case.backbone.key == "a"]
    entry = recorded.result.case.backbone.model_copy(update={"key": ODD})
    metrics = {**recorded.result.metrics, "vote_share": math.nan}
    case = replace(recorded.result.case, backbone=entry)
    ledger.write(
        replace(
            recorded, entry=recorded.entry.replace("-a-", "-odd-"),
            result=replace(recorded.result, case=case, metrics=metrics, run_key="odd"),
        )
    )  # fmt: skip
    return ledger


def test_every_column_is_told(run: Ledger) -> None:
    for table in (SCORES, OUTCOMES):
        assert list(WORDS[table]) == schema_of(table).names


def test_the_data_card(run: Ledger, tmp_path: Path) -> None:
    words = ["--licence", "cc-by-4.0", "--from", "ledger", "--from", "references"]
    assert main(["export", "-o", "out", *words, "--references", str(MEASURED)]) == 0
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    card = DatasetCard(text)
    assert card.data.license == "cc-by-4.0"
    assert [part["data_files"] for part in card.data.configs] == [
        "scores.parquet",
        "outcomes.parquet",
    ]
    for told in (
        "| knn/digits | top1 (score) | proportion | yes |", "2310.19909", "`bob import`",
        "- sessions: first", "| resnet50\\_a1\\_in1k |", "apache-2.0", "| digits | CC BY 4.0 |",
        "| ../é: [b]\\|\\`c\\` |",
    ):  # fmt: skip
        assert told.replace("\\_", "_") in text.replace("\\_", "_"), told


def test_croissant(run: Ledger, tmp_path: Path) -> None:
    words = ["--licence", "cc-by-4.0", "--creator", "Somebody", "--url", "https://example.org/x"]
    assert main(["export", "-o", "out", *words]) == 0
    path = tmp_path / "out" / "croissant.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["@type"] == "sc:Dataset"
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    for key in ("@context", "name", "description", "license", "url", "creator", "citeAs"):
        assert found[key]
    files = {file["@id"]: file for file in found["distribution"]}
    for name, file in files.items():
        assert file["sha256"] == digest_of_file(tmp_path / "out" / name)
        assert file["contentUrl"] == name
    for records in found["recordSet"]:
        for field in records["field"]:
            assert field["source"]["fileObject"]["@id"] in files
    assert main(["export", "-o", "bare", "--no-outcomes"]) == 0
    bare = json.loads((tmp_path / "bare" / "croissant.json").read_text())
    assert not bare.keys() & {"license", "url", "creator", "datePublished"}
    assert [part["name"] for part in bare["recordSet"]] == ["scores"]


def test_croissant_by_its_own_package(run: Ledger, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    words = ["--licence", "cc-by-4.0", "--creator", "Somebody", "--url", "https://example.org/x"]
    assert main(["export", "-o", "out", *words]) == 0
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert all("datePublished" in text or "version" in text for text in issues.warnings)
    rows = list(dataset.records("scores"))
    names = {row["scores/backbone"].decode() for row in rows}
    assert names == {"a", "c", ODD, "resnet50_a1_in1k"}
    outcomes = list(dataset.records("outcomes"))
    assert len(outcomes) == 597 * 6


def test_model_cards(run: Ledger, tmp_path: Path) -> None:
    words = ["--format", "model-index", "--benchmark", "digits=me/digits"]
    assert main(["export", "-o", "out", *words]) == 0
    files = sorted((tmp_path / "out" / "model-index").iterdir())
    assert len(files) == 4
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model-index"]
    cards = {card.data.model_name: card for card in map(ModelCard.load, files)}
    assert cards.keys() == {"a", "c", ODD, "resnet50_a1_in1k"}
    assert cards["resnet50_a1_in1k"].data.license == "apache-2.0"
    assert "license" not in cards["a"].data.to_dict()
    (trained,) = cards["c"].data.eval_results
    assert trained.metric_value == pytest.approx(0.8, abs=0.03)
    assert trained.metric_args["seeds"] == 3
    assert (trained.task_type, trained.dataset_type) == ("image-classification", "me/digits")
    # what is no number is no result
    assert [result.metric_type for result in cards[ODD].data.eval_results] == ["top1"]


def test_eval_results(run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "--format", "eval-results", "-o", "out"]
    for benchmark, told in (
        ([], "no score is of a benchmark of the hub"),
        (["--benchmark", "knn/digits=me/digits"], "no score is of a benchmark of the hub"),
        (["--benchmark", "knn/digit=me/digits:knn"], "Did you mean 'knn/digits'"),
    ):
        assert main([*words, *benchmark]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--benchmark", "knn/digits=me/digits:knn", "--url", "https://x.org"]) == 0
    files = sorted((tmp_path / "out").rglob(".eval_results/*.yaml"))
    assert len(files) == 3
    entries = [
        entry
        for path in files
        for entry in parse_eval_result_entries(yaml.safe_load(path.read_text()))
    ]
    assert {(entry.dataset_id, entry.task_id) for entry in entries} == {("me/digits", "knn")}
    assert all(entry.source_url == "https://x.org" for entry in entries)
    assert all("knn/digits top1" in entry.notes for entry in entries)
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in files)


def test_every_eval_ever(run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "--format", "every-eval-ever", "-o", "out"]
    assert main(words) == 2
    assert "name --creator" in capsys.readouterr().err
    assert main([*words, "--creator", "Somebody"]) == 0
    root = tmp_path / "out" / "every-eval-ever"
    files = sorted(root.rglob("*.json"))
    assert len(files) == 4
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    by_model = {record["model_info"]["name"]: record for record in records}
    assert by_model.keys() == {"a", "c", ODD, "resnet50_a1_in1k"}
    known = by_model["resnet50_a1_in1k"]["model_info"]
    assert (known["id"], known["developer"]) == ("timm/resnet50.a1_in1k", "timm")
    assert by_model["a"]["model_info"]["developer"] == "unknown"
    assert any("timm/resnet50.a1_in1k" in str(path) for path in files)
    (result,) = by_model["a"]["evaluation_results"]
    assert result["metric_config"]["lower_is_better"] is False
    interval = result["score_details"]["uncertainty"]["confidence_interval"]
    assert interval["lower"] < result["score_details"]["score"] < interval["upper"]
    (trained,) = by_model["c"]["evaluation_results"]
    assert "uncertainty" not in trained["score_details"]
    assert trained["score_details"]["details"]["value_by_seed"].startswith("0=")


def test_every_eval_ever_by_its_own_package(run: Ledger, tmp_path: Path) -> None:
    validation = pytest.importorskip("every_eval_ever.validator.validation_core")
    words = ["export", "--format", "every-eval-ever", "-o", "out", "--creator", "Somebody"]
    assert main([*words, "--developer", "A maker"]) == 0
    root = tmp_path / "out" / "every-eval-ever"
    for path in root.rglob("*.json"):
        report = validation.validate_aggregate(
            path, repo_path=str(path.relative_to(root)), run_semantic_checks=True
        )
        assert report.valid, report.errors
        assert not report.warnings


def test_published_scores_are_left_to_who_published_them(
    run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.csv").write_text(
        "backbone,task,dataset,metric,value\nz,knn,digits,top1,.9\n"
    )
    assert main(["import", "theirs.csv"]) == 0
    words = ["export", "--from", "imported:theirs", "--format", "model-index", "-o", "out"]
    assert main(words) == 2
    assert "left to who published them" in capsys.readouterr().err
    assert main([*words, "--from", "ledger"]) == 0
    assert len(list((tmp_path / "out" / "model-index").iterdir())) == 4
