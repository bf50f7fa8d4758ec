"""The frozen protocols through ``run_case`` and through pytest, on real features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bob.backbones import build_backbone
from bob.case import Case, Context, Result, Status
from bob.catalog import Catalog, load_catalog
from bob.cli import main
from bob.errors import BobError
from bob.evaluator import Evaluator
from bob.executors import make_executor
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.references.files import BUILTIN, ReferenceStore
from bob.references.gate import stages
from bob.run import run_case
from bob.tracking import NoTracker
from tests import counting

FROZEN = ("linear_probe", "knn", "low_shot", "retrieval", "ood")

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(accelerator="cpu", features=str(tmp_path_factory.mktemp("features")))


def cases_of(task: str, backbone: str) -> tuple[Case, ...]:
    return Plan(load_catalog(), Selection(backbones=(backbone,))).cases(task)


def run(task: str, context: Context, backbone: str = "resnet_micro_glyphs") -> Result:
    result = run_case(cases_of(task, backbone)[0], context)
    assert result.failure is None, result.failure
    return result


def test_the_whole_profile_runs_the_backbone_once_per_image(tmp_path: Path) -> None:
    context = Context(accelerator="cpu", features=str(tmp_path))
    distinct: dict[str, int] = {}

    def profile() -> tuple[int, float]:
        counting.SEEN.clear()
        counting.BUILDS.clear()
        extracted, runs = 0.0, 0
        for task in FROZEN:
            for case in cases_of(task, "tests.counting:net"):
                result = run_case(case, context)
                assert result.failure is None, result.failure
                extracted += result.metrics["images_extracted"]
                runs += 1
        # A factory is met twice, and called once a run from then on.
        assert len(counting.BUILDS) - runs in (0, 1)
        # Every run looks at two fixed images to see what the backbone gives.
        return sum(counting.SEEN) - 2 * runs, extracted

    for task in FROZEN:
        for case in cases_of(task, "tests.counting:net"):
            for split in splits(case):
                distinct[split.digest] = len(split)
    assert profile() == (sum(distinct.values()), sum(distinct.values()))
    assert profile() == (0, 0)


def splits(case: Case) -> list[object]:
    from bob.datasets import RetrievalData, ShiftData, load_dataset

    data = load_dataset(case.dataset)
    if isinstance(data, RetrievalData):
        return [data.queries, data.database]
    shifts = [shift.split for shift in data.shifts] if isinstance(data, ShiftData) else []
    return [data.train, data.test, *shifts]


@pytest.mark.parametrize("task", FROZEN)
def test_no_seed_changes_what_nothing_random_made(task: str, context: Context) -> None:
    case = cases_of(task, "resnet_micro_glyphs")[0]
    assert not case.seeded
    first, second = (run_case(case.with_seed(seed), context) for seed in (0, 7))

    def scores(result: Result) -> dict[str, float]:
        return {k: v for k, v in result.metrics.items() if not k.startswith("images_")}

    assert first.failure is None
    assert scores(first) == scores(second)
    for judged in PROTOCOLS[task].judged:
        assert judged.name in first.metrics


@pytest.mark.slow
def test_the_papers_probe_follows_its_seed_and_keeps_its_views(context: Context) -> None:
    case = cases_of("linear_probe_paper", "resnet_micro_glyphs")[0]
    assert case.seeded
    first, again, reseeded = (run_case(case.with_seed(seed), context) for seed in (0, 0, 1))
    assert first.failure is None, first.failure
    assert first.metrics["images_extracted"] >= 6 * 1200
    assert again.metrics["images_extracted"] == 0
    assert first.metrics["top1"] == again.metrics["top1"]
    assert first.metrics["train_loss"] == again.metrics["train_loss"]
    assert reseeded.metrics["train_loss"] != first.metrics["train_loss"]
    assert len(first.history) == 6
    assert first.metrics["best_top1"] == max(values["top1"] for values in first.history)


@pytest.mark.slow
def test_low_shot_fine_tuning_follows_its_seed(context: Context) -> None:
    (case,) = cases_of("low_shot_finetune", "resnet_micro_glyphs")
    small = case.recipe.model_copy(update={"draws": 2, "least_updates": 3, "epochs": 1})
    case = replace(case, recipe=small)
    first, again, reseeded = (run_case(case.with_seed(seed), context) for seed in (0, 0, 1))
    assert first.failure is None, first.failure
    assert first.metrics["top1"] == again.metrics["top1"]
    assert first.metrics["top1"] != reseeded.metrics["top1"]
    assert {"top1_1pct", "top1_10pct", "spread_1pct", "spread_10pct"} <= first.metrics.keys()
    rows = table(first, "low_shot.csv")
    assert [(row["setting"], row["images"]) for row in rows] == [
        ("1pct", "12"), ("1pct", "12"), ("10pct", "120"), ("10pct", "120"),
    ]  # fmt: skip


def table(result: Result, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.files[name].decode())))


def test_the_probe_leaves_its_path(context: Context) -> None:
    result = run("linear_probe", context)
    rows = table(result, "regularisation_path.csv")
    assert len(rows) == 45
    best = min(range(45), key=lambda place: float(rows[place]["expected_loss"]))
    around = [float(rows[place]["c"]) for place in (best - 1, best + 1)]
    assert around[0] < result.metrics["c"] < around[1]
    known = [float(row["holdout_top1"]) for row in rows[best - 1 : best + 2]]
    assert min(known) - 1e-5 <= result.metrics["holdout_top1"] <= max(known) + 1e-5
    assert result.files["regularisation_path.png"].startswith(b"\x89PNG")


def test_low_shot_scores_are_means_over_draws(context: Context) -> None:
    result = run("low_shot", context)
    rows = table(result, "low_shot.csv")
    assert len(rows) == 25
    settings = ("1shot", "5shot", "10shot", "1pct", "10pct")
    for name in settings:
        values = [float(row["top1"]) for row in rows if row["setting"] == name]
        assert result.metrics[f"top1_{name}"] == pytest.approx(sum(values) / 5, abs=1e-5)
        assert result.metrics[f"spread_{name}"] > 0
    mean = sum(result.metrics[f"top1_{name}"] for name in settings) / 5
    assert result.metrics["top1"] == pytest.approx(mean)
    assert result.metrics["top1_1shot"] < result.metrics["top1_10shot"]
    record = json.loads(result.files["draws.json"])
    assert [len(rows) for rows in record["draws"]["10pct"]] == [120] * 5


def test_shifts_are_told_apart(context: Context) -> None:
    result = run("ood", context)
    assert 0.1 < result.metrics["chance_bound"] < result.metrics["shifted_top1"]
    rows = table(result, "shifts.csv")
    assert len({row["group"] for row in rows}) >= 8
    assert {row["severity"] for row in rows} == {"1", "2", "3", "4", "5"}
    groups = [key for key in result.metrics if key.startswith("shift/")]
    mean = sum(result.metrics[key] for key in groups) / len(groups)
    assert result.metrics["shifted_top1"] == pytest.approx(mean)
    assert result.metrics["gap"] == pytest.approx(result.metrics["top1"] - mean, abs=1e-5)
    assert "effective_robustness" in result.metrics
    assert result.files["shifts.png"].startswith(b"\x89PNG")


def test_a_probe_of_the_source_is_the_linear_probe(context: Context) -> None:
    probe, ood = run("linear_probe", context), run("ood", context)
    assert ood.metrics["top1"] == probe.metrics["top1"]
    assert ood.metrics["c"] == probe.metrics["c"]


def test_retrieval_grades_and_shows(context: Context) -> None:
    result = run("retrieval", context)
    assert result.metrics["map"] == result.metrics["map_medium"]
    assert result.metrics["map_easy"] > result.metrics["map_hard"]
    assert result.metrics["map"] > result.metrics["chance_bound"]
    for name in ("mrr", "mrr_authors", "recall_1", "recall_5", "recall_10", "precision_5", "hit_1"):
        assert 0 < result.metrics[name] <= 1
    assert result.files["retrieval.png"].startswith(b"\x89PNG")
    rows = table(result, "ranking.csv")
    assert len(rows) == 240 * 10


def test_fewer_images_than_neighbours_is_said(context: Context) -> None:
    (case,) = cases_of("knn", "resnet_micro_glyphs")
    case = replace(case, recipe=case.recipe.model_copy(update={"others": (5000,)}))
    result = run_case(case, context)
    assert result.failure is None
    assert "1200 train images are fewer than k = 5000" in result.remarks[0]
    assert result.metrics["top1_k5000"] < result.metrics["top1"]


def test_a_broken_store_does_not_cost_the_score(tmp_path: Path, context: Context) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    (case,) = cases_of("knn", "resnet_micro_glyphs")
    result = run_case(case, replace(context, features=str(blocked)))
    assert result.failure is None
    assert result.metrics["top1"] == run("knn", context).metrics["top1"]
    assert "could not be stored" in result.remarks[0]
    assert "--features" in result.remarks[0]


def test_an_exact_case_runs_once_and_has_an_exact_band(tmp_path: Path, context: Context) -> None:
    (case,) = cases_of("knn", "resnet_micro_glyphs")
    evaluator = Evaluator(
        executor=make_executor("inline"),
        context=context,
        store=ReferenceStore(tmp_path, builtin=tmp_path / "none"),
        tracker=NoTracker(),
        seeds=3,
    )
    from bob.evaluation import Bands

    evaluator.bands = Bands.ALL
    written = evaluator.evaluate(case)
    assert written.update is not None
    assert list(written.update.new.values) == [1000]
    evaluator.bands = Bands.CHECK
    checked = evaluator.evaluate(case)
    assert len(checked.results) == 1
    comparison = checked.verdict.comparisons[0]
    assert checked.verdict.status is Status.PASS
    assert comparison.exact
    assert comparison.high - comparison.low == pytest.approx(2 * case.margin)
    colder = replace(case, recipe=case.recipe, margins={**case.margins, case.metric: 0.0})
    unfixed = evaluator.evaluate(replace(colder, backbone=_random(case.backbone)))
    assert unfixed.verdict.status is Status.FAIL
    assert len(unfixed.results) == 3 + stages(1).extra, (
        "a backbone without fixed weights runs its seeds"
    )


def _random(entry: object) -> object:
    return entry.model_copy(update={"weights": None})  # type: ignore[attr-defined]


def test_a_random_backbone_is_measured_over_seeds() -> None:
    for task in FROZEN:
        assert cases_of(task, "resnet_micro_random")[0].seeded
        assert not cases_of(task, "resnet_micro_glyphs")[0].seeded
    assert cases_of("linear_probe", "timm:resnet18")[0].seeded is False
    assert cases_of("linear_probe", "timm:resnet18,pretrained=false")[0].seeded


def test_datasets_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "more.yaml"
    path.write_text(
        "scales:\n  mine:\n    tasks:\n      retrieval:\n        datasets: [digits]\n"
        "        recipe: {image_size: 32}\n"
    )
    with pytest.raises(BobError, match=r"more\.yaml:5: .*'digits' is of kind classification; "
                       "retrieval runs on characters"):  # fmt: skip
        load_catalog([path])


def test_pretrained_beats_random_in_every_family_and_setting(catalog: Catalog) -> None:
    store = ReferenceStore(BUILTIN)
    scores: dict[tuple[str, str], float] = {}
    for file, setting, reference in store.all("smoke"):
        values = reference.metric(PROTOCOLS[setting.split("/")[0]].metric)
        scores[setting, file.backbone] = sum(values) / len(values)
    settings = {setting for setting, _ in scores}
    # micro backbones have no released classifier, and smoke data no multiple labels
    measured = {
        name
        for name, task in PROTOCOLS.items()
        if not task.released_head and task.data != "multilabel"
    }
    assert {setting.split("/")[0] for setting in settings} == measured
    settings = {name for name in settings if "detection" not in name}  # tests/test_detection.py
    for family in ("swin", "vit", "convnext", "resnet"):
        for setting in settings:
            pretrained = scores[setting, f"{family}_micro_glyphs"]
            assert pretrained > scores[setting, f"{family}_micro_random"], (family, setting)


def test_the_table_in_the_docs_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "results.md").read_text()
    (command,) = (line for line in page.splitlines() if line.startswith("bob profile"))
    assert command.endswith("{swin,vit,convnext,resnet}_micro_{random,glyphs}")
    names = [
        f"{family}_micro_{weights}"
        for family in ("swin", "vit", "convnext", "resnet")
        for weights in ("random", "glyphs")
    ]
    assert main(["profile", "--markdown", *names]) == 0
    assert capsys.readouterr().out in page
    assert main(["profile", "swin_micro_glyph"]) == 2
    assert "Did you mean 'swin_micro_glyphs'" in capsys.readouterr().err


def test_build_is_cheap_to_tell_apart(catalog: Catalog) -> None:
    entry = catalog.backbone("resnet_micro_glyphs")
    first, second = (build_backbone(entry, image_size=32) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    other = build_backbone(catalog.backbone("resnet_micro_random"), image_size=32)
    assert first.fingerprint != other.fingerprint
