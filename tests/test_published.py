from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bob.artifacts.files import verdict_record
from bob.case import Case, Result, Status, Verdict
from bob.catalog import BackboneEntry, Catalog, DatasetEntry, parse_backbone
from bob.cli import main
from bob.evaluation import Evaluation
from bob.ledger.records import Recorded, entry_name, now
from bob.protocols.eval_released import ReleasedRecipe
from bob.protocols.knn import KnnRecipe
from bob.protocols.retrieval import RetrievalRecipe
from bob.references import published
from bob.references.files import ReferenceStore
from bob.references.judge import Gate
from bob.references.published import Published, beside, comparisons, published_scores
from bob.report.text import failure_message, table
from bob.tabular import aligned
from bob.tracking import Tracker, resolve_store
from tests.conftest import MakeResult

NAME = "resnet50.a1_in1k"
TIMM = "huggingface/pytorch-image-models"


def score(**facts: object) -> Published:
    usual: dict[str, object] = {
        "checkpoint": f"timm:{NAME}", "backbone": "resnet50_a1_in1k", "task": "eval_released",
        "dataset": "imagenet", "metric": "top1", "value": 0.8124, "width": 0.001,
        "image_size": 288, "setting": "crop_pct 1.000, bicubic", "source_repo": TIMM,
        "source_path": "results/results-imagenet.csv", "source_commit": "aa4b585" + "0" * 33,
    }  # fmt: skip
    return Published(**{**usual, **facts})  # type: ignore[arg-type]


def dataset(key: str, kind: str = "classification") -> DatasetEntry:
    return DatasetEntry.model_validate(
        {"key": key, "kind": kind, "loader": "a:b", "sha256": None, "classes": 1000,
         "test_size": 50000}
    )  # fmt: skip


@pytest.fixture
def case(catalog: Catalog) -> Case:
    return Case(
        backbone=parse_backbone(f"timm:{NAME}", catalog),
        task="eval_released",
        dataset=dataset("imagenet"),
        scale="full",
        recipe=ReleasedRecipe(),
    )


def result(case: Case, size: int = 288, **metrics: float) -> Result:
    return Result(
        case=case, metrics={"test_loss": 0.9, **metrics}, image_size=size, weights_digest="w"
    )


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(ReferenceStore(tmp_path / "references", builtin=tmp_path / "none"))


# what the package carries


def test_every_carried_score_is_a_fraction_of_a_known_task_with_its_source() -> None:
    scores = published_scores()
    assert {score.task for score in scores} == {"eval_released", "knn", "retrieval"}
    for score in scores:
        assert 0 < score.value <= 1
        assert 0.001 <= score.width <= 0.01
        assert len(score.source_commit) == 40
        assert "/" in score.source_repo
        assert score.checkpoint or score.backbone
    places = {
        (
            score.checkpoint,
            score.backbone,
            score.task,
            score.dataset,
            score.metric,
            score.image_size,
        )
        for score in scores
    }
    assert len(places) == len(scores)


def test_carried_scores_are_at_the_size_timm_tests_at() -> None:
    import timm
    from timm.data import resolve_data_config

    names = {
        (score.checkpoint.removeprefix("timm:"), score.image_size)
        for score in published_scores()
        if score.task == "eval_released"
    }
    assert len(names) > 100
    for name, size in names:
        config = timm.get_pretrained_cfg(name)
        assert config.num_classes == 1000
        data = resolve_data_config(pretrained_cfg=config.to_dict(), use_test_size=True)
        assert data["input_size"][-1] == size


# the filter


# matching


def entry(spec: str, catalog: Catalog, **changes: object) -> BackboneEntry:
    return parse_backbone(spec, catalog).model_copy(update=changes)


def test_a_checkpoint_is_found_by_timm_name_and_by_key(catalog: Catalog) -> None:
    by_timm_name = score()
    assert by_timm_name.is_of(entry(f"timm:{NAME}", catalog))
    assert by_timm_name.is_of(entry(f"timm:hf-hub:timm/{NAME}", catalog))
    assert by_timm_name.is_of(entry(f"timm:{NAME},name=mine", catalog))
    assert by_timm_name.is_of(entry(f"timm:{NAME}", catalog, key="resnet50_a1_in1k"))
    assert not by_timm_name.is_of(entry("timm:resnet50.a2_in1k", catalog))
    assert not by_timm_name.is_of(entry(f"timm:{NAME},pretrained=false", catalog))
    assert not by_timm_name.is_of(entry(f"timm:{NAME},output_stride=16", catalog))
    assert not by_timm_name.is_of(entry(f"timm:{NAME}", catalog, mean=(0.5, 0.5, 0.5)))


def test_a_file_counts_under_the_catalogs_own_key_alone(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    file.write_bytes(b"")
    file_entry = entry(f"timm:{NAME},checkpoint={file}", catalog)
    assert not score().is_of(file_entry)
    assert score().is_of(file_entry.model_copy(update={"key": "resnet50_a1_in1k"}))
    foreign = score(checkpoint="", backbone="mocov3_vit_base")
    assert not foreign.is_of(file_entry)
    assert foreign.is_of(file_entry.model_copy(update={"key": "mocov3_vit_base"}))


def test_another_size_dataset_task_or_recipe_does_not_match(case: Case) -> None:
    def compared(case: Case, known: Published, size: int = 288, **metrics: float) -> int:
        return len(comparisons(case, [result(case, size, **metrics)], [known]))

    assert compared(case, score(), top1=0.81) == 1
    assert compared(case, score(), 224, top1=0.81) == 0
    assert compared(case, score(dataset="imagenet_a"), top1=0.81) == 0
    assert compared(case, score(task="knn"), top1=0.81) == 0
    assert compared(case, score(metric="top5"), top1=0.81) == 0
    assert compared(case, score(), top1=float("nan")) == 0

    knn = replace(case, task="knn", recipe=KnnRecipe())
    assert compared(knn, score(task="knn"), top1=0.7) == 1
    assert compared(replace(knn, recipe=KnnRecipe(k=10)), score(task="knn"), top1=0.7) == 0
    birds = score(task="retrieval", dataset="cub200", metric="mrr_authors")
    search = replace(
        case, task="retrieval", dataset=dataset("cub200", "retrieval"), recipe=RetrievalRecipe()
    )
    assert compared(search, birds, mrr_authors=0.6, mrr=0.7) == 1
    assert compared(search, birds, mrr=0.7) == 0
    hard = replace(search, recipe=RetrievalRecipe(setting="hard"))
    assert compared(hard, birds, mrr_authors=0.6) == 0


def test_shifted_targets_are_found_under_their_names(case: Case) -> None:
    shifted = replace(case, dataset=dataset("imagenet_variants", "shift"))
    scores = [
        score(dataset="imagenet_a", value=0.1),
        score(dataset="imagenet_a", metric="top5", value=0.2),
        score(dataset="imagenet_a", metric="source_top1", value=0.3),
        score(dataset="imagenet_r", value=0.4),
        score(),
    ]
    metrics = {
        "top1": 0.8, "shift/imagenet_a": 0.11, "shift_top5/imagenet_a": 0.22,
        "source_top1/imagenet_a": 0.33,
    }  # fmt: skip
    compared = comparisons(shifted, [result(shifted, **metrics)], scores)
    assert [
        (comparison.metric, comparison.value, comparison.published) for comparison in compared
    ] == [
        ("top1", 0.8, 0.8124),
        ("shift/imagenet_a", 0.11, 0.1),
        ("shift_top5/imagenet_a", 0.22, 0.2),
        ("source_top1/imagenet_a", 0.33, 0.3),
    ]
    probe = replace(shifted, task="ood")
    assert not comparisons(probe, [result(probe, **metrics)], [score(task="ood")])
    plain = result(shifted, top1=0.8, **{"shift/cartoons": 0.4})
    assert not comparisons(shifted, [plain], scores)


# judging


@pytest.mark.parametrize("top1", [0.8114, 0.8124, 0.8134])
def test_inside_the_width_is_told_without_a_warning(gate: Gate, case: Case, top1: float) -> None:
    verdict = gate.judge(case, [result(case, top1=top1)])
    assert verdict.status is Status.NO_REFERENCE
    assert "Published: top1" in verdict.reason
    assert TIMM in verdict.reason
    assert verdict.warnings == ()
    assert verdict.published[0].agrees


def test_agreement_does_not_excuse_a_failure(case: Case) -> None:
    failed = Verdict(status=Status.FAIL, reason="below")
    told = beside(failed, case, [result(case, top1=0.8124)], [score()])
    assert told.status is Status.FAIL
    assert told.reason == "below"
    assert told.published[0].agrees


@pytest.mark.parametrize("top1", [0.5, 0.811, 0.814, 0.999])
def test_outside_the_width_warns_and_never_fails(gate: Gate, case: Case, top1: float) -> None:
    verdict = gate.judge(case, [result(case, top1=top1)])
    assert verdict.status is Status.NO_REFERENCE
    (warning,) = verdict.warnings
    assert f"top1 {top1:.4f} is {top1 - 0.8124:+.4f} from the published 0.8124" in warning
    assert "results/results-imagenet.csv @aa4b585" in warning


def test_a_measured_reference_decides_alone(gate: Gate, case: Case) -> None:
    gate.store.write(case, [result(case, top1=0.7)])
    verdict = gate.judge(case, [result(case, top1=0.7)])
    assert verdict.status is Status.PASS
    assert "Published" not in verdict.reason
    assert len(verdict.warnings) == 1
    below = gate.judge(case, [result(case, top1=0.5)])
    assert below.status is Status.FAIL
    assert below.published
    assert gate.judge(case, [result(case, top1=float("nan"))]).published == ()


# telling


def evaluated(gate: Gate, case: Case, **metrics: float) -> Evaluation:
    results = (result(case, **metrics),)
    return Evaluation(case=case, results=results, verdict=gate.judge(case, results))


def test_the_table_has_a_column_when_a_case_has_a_published_score(gate: Gate, case: Case) -> None:
    plain = evaluated(gate, replace(case, dataset=dataset("elsewhere")), top1=0.8)
    assert "published" not in table([plain])[0]
    known = evaluated(gate, case, top1=0.8)
    rows = table([plain, known])
    column = rows[0].index("published")
    assert rows[0][-2:] == ("published", "verdict")
    assert rows[1][column] == "-"
    assert rows[2][column] == "0.8124 (-0.0124, 1 of 1 apart)"
    assert "published" in aligned(rows)[0]
    text = failure_message(known, store="sqlite:///x", repeat="pytest")
    assert "published 0.8124 ± 0.0010  Δ -0.0124" in text
    record = verdict_record(known.verdict)["published"]["top1"]
    assert record["published"] == pytest.approx(0.8124)
    assert record["agrees"] is False


def test_mlflow_keeps_the_published_score_its_distance_and_its_source(
    shared_store: str, tmp_path: Path, gate: Gate, case: Case
) -> None:
    tracker = Tracker(resolve_store(tmp_path, shared_store), "tiny", tmp_path)
    entry = entry_name(case, "check")
    run_id = tracker.start_case(case, role="check", entry=entry)
    assert run_id is not None
    evaluation = evaluated(gate, case, top1=0.8)
    recorded = Recorded(
        entry=entry, session="s", role="check", time=now(), result=evaluation.results[0]
    )
    tracker.finish_case(run_id, recorded)
    assert tracker.log_verdict([(run_id, recorded)], evaluation.verdict, name="v") == run_id
    assert not tracker.problems
    run = MlflowClient(shared_store).get_run(run_id)
    assert run.data.metrics["published/top1"] == pytest.approx(0.8124)
    assert run.data.metrics["published_delta/top1"] == pytest.approx(-0.0124)
    assert run.data.tags["bob.published"].startswith(f"{TIMM} results/results-imagenet.csv")
    assert run.data.tags["bob.verdict"] == "no reference"


def test_bob_list_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "published", "mocov3_vit_base"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all("mrr_authors" in line and "hsouri/bob-retrieval" in line for line in lines)
    assert main(["list", "published", f"timm:{NAME}"]) == 0
    by_name = capsys.readouterr().out
    assert main(["list", "published", "resnet50_a1_in1k"]) == 0
    assert capsys.readouterr().out == by_name
    assert main(["list", "published", "resnet50_a1"]) == 2
    assert "Did you mean 'resnet50_a1_in1k'" in capsys.readouterr().err
    assert main(["list", "tasks", "knn"]) == 2


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Replaces the carried scores by one of the tiny scale's fine-tuning."""

    def carry(value: float) -> None:
        for name, text in {
            "sources.csv": f"source,repository,path,commit\n0,some/where,README.md,{'c' * 40}\n",
            "widths.csv": "task,dataset,metric,width\nfinetune,digits,top1,0.25\n",
            "scores.csv": "checkpoint,backbone,task,dataset,metric,value,image_size,setting,"
            f"source\n,pixels_fine,finetune,digits,top1,{value},32,,0\n",
        }.items():
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(published, "FOLDER", tmp_path)
        published_scores.cache_clear()

    yield carry
    monkeypatch.undo()
    published_scores.cache_clear()


@pytest.mark.parametrize(("value", "warned"), [(0.7, False), (0.1, True)])
def test_a_session_tells_it(
    project: pytest.Pytester, carried: Callable[[float], None], value: float, warned: bool
) -> None:
    carried(value)
    done = project.runpytest("-q", "-k", "pixels", "--progress=off")
    done.assert_outcomes(passed=2, warnings=2 + warned)
    done.stdout.fnmatch_lines([f"pixels_fine *  {value:.4f} (*no reference"])
    text = done.stdout.str()
    assert "Published: top1" in text
    assert ("not what was published: top1" in text) is warned


def test_the_make_result_of_other_tests_has_no_size(
    gate: Gate, tiny_case: Case, make_result: MakeResult
) -> None:
    assert gate.judge(tiny_case, [make_result(tiny_case, 0.95)]).published == ()
