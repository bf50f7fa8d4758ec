"""Released weights on public photographs: scores, scikit-learn's on the same, and damage."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from timm.data import create_transform, resolve_data_config

from benchmarks.common import evaluator
from benchmarks.damage import DAMAGE, seen
from bob.backbones import build_backbone
from bob.case import Case, Context, Result, Status
from bob.catalog import Catalog
from bob.datasets import ClassificationData, ImageSplit, load_dataset
from bob.evaluation import Bands
from bob.run import run_case
from tests.real import LITE0, TWIN, fashion, lite, small_cases

pytestmark = [pytest.mark.real, pytest.mark.slow]
QUICK = ("knn", "linear_probe", "retrieval")
SEEDLESS = (*QUICK, "low_shot")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A feature store that workers of pytest-xdist share: each image goes through once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return str(folder / "features-of-photographs")


@pytest.fixture(scope="module")
def cases(catalog: Catalog) -> dict[tuple[str, str], Case]:
    """Frozen protocols of a pretrained backbone and its random twin on 400 photographs."""
    fashion(catalog)
    lite()
    return {
        (task, case.backbone.key): case
        for task in SEEDLESS
        for case in small_cases(catalog, task, train=24, test=16)
    }


@pytest.fixture(scope="module")
def results(cases: dict[tuple[str, str], Case], features: str) -> dict[tuple[str, str], Result]:
    found = {}
    for key, case in cases.items():
        found[key] = run_case(case, Context(accelerator="cpu", workers=0, features=features))
        assert found[key].failure is None, found[key].failure
    return found


@pytest.mark.parametrize("task", SEEDLESS)
def test_pretraining_is_far_above_the_random_twin(
    results: dict[tuple[str, str], Result], task: str
) -> None:
    pretrained, random = results[task, LITE0].score, results[task, TWIN].score
    assert pretrained is not None
    assert random is not None
    assert pretrained > random + 0.05, (pretrained, random)


def plain_features(catalog: Catalog, split: ImageSplit) -> torch.Tensor:
    """As a user of timm writes it, with the settings that timm resolves."""
    module = build_backbone(catalog.backbone(LITE0), image_size=None).module.eval()
    transform = create_transform(**resolve_data_config({}, model=module))
    images = torch.stack([transform(split.pil(row)) for row in range(len(split))])
    with torch.no_grad():
        return torch.cat([module(part) for part in images.split(50)])


def test_the_probe_is_scikit_learns_on_features_of_a_plain_loop(
    catalog: Catalog,
    cases: dict[tuple[str, str], Case],
    results: dict[tuple[str, str], Result],
) -> None:
    data = load_dataset(cases["linear_probe", LITE0].dataset)
    assert isinstance(data, ClassificationData)
    assert isinstance(data.train, ImageSplit)
    assert isinstance(data.test, ImageSplit)
    metrics = results["linear_probe", LITE0].metrics
    train, test = (plain_features(catalog, part) for part in (data.train, data.test))
    model = LogisticRegression(C=metrics["c"], max_iter=5000)
    model.fit(train.double().numpy(), data.train.targets.numpy())
    theirs = model.score(test.double().numpy(), data.test.targets.numpy())
    # so few images tell no less than one of them
    assert metrics["top1"] == pytest.approx(theirs, abs=1.01 / len(data.test))


@pytest.fixture(scope="module")
def references(cases: dict[tuple[str, str], Case], features: str, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    made = evaluator("cpu", references=folder)
    made.context = replace(made.context, features=features, workers=0)
    made.bands = Bands.ALL
    for task in QUICK:
        made.evaluate(cases[task, LITE0])
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen(cases: dict[tuple[str, str], Case], references: Path, damage: str) -> None:
    """Nothing is random in these protocols, so that their values differ where anything does."""
    chosen = [cases[task, LITE0] for task in QUICK]
    (evaluations,) = seen(chosen, references, "cpu", only=[damage]).values()
    statuses = {evaluation.verdict.status for evaluation in evaluations}
    unchanged = {evaluation.verdict.unchanged for evaluation in evaluations}
    if damage == "none":
        assert (statuses, unchanged) == ({Status.PASS}, {True})
        return
    assert unchanged == {False}
    if damage != "1 % noise on weights":  # moves hardly a vote, and is told as a difference
        assert Status.FAIL in statuses
