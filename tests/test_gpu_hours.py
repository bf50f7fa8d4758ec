"""What cases cost on a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bob.catalog import Catalog
from bob.cost import DEFAULT_GPU, Speeds, estimate, total
from bob.cost.model import TRAIN
from bob.cost.total import refusal
from bob.datasets import load_dataset
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.protocols.detection_frozen import FrozenDetectionRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.knn import KnnRecipe
from bob.protocols.linear_probe import ProbeRecipe
from bob.protocols.linear_probe_paper import PaperProbeRecipe
from tests.cost_parts import HOUR, IMAGENET, VIT, case_of, vit_speed


def test_finetuning_costs_epochs_of_updates_and_scoring() -> None:
    once = estimate(case_of(FinetuneRecipe(epochs=100)), Speeds())
    images = 100 * (TRAIN * 1_281_167 + 50_000)
    assert once.hours == pytest.approx(images / vit_speed() / HOUR)
    assert not once.rough
    thrice = estimate(case_of(FinetuneRecipe(epochs=100)), Speeds(), runs=3)
    assert thrice.hours == pytest.approx(3 * images / vit_speed() / HOUR)


def test_frozen_protocols_share_their_pass() -> None:
    speeds = Speeds()
    cases = [case_of(KnnRecipe(), "knn"), case_of(ProbeRecipe(), "linear_probe")]
    each = [estimate(case, speeds) for case in cases]
    one_pass = (1_281_167 + 50_000) / vit_speed() / HOUR
    assert [estimated.hours for estimated in each] == pytest.approx([one_pass, one_pass])
    whole = total(each, speeds.gpu)
    assert whole.hours == pytest.approx(one_pass)
    assert (whole.low, whole.high) == pytest.approx((one_pass / 2, one_pass * 2))
    views = estimate(case_of(PaperProbeRecipe(epochs=90), "linear_probe_paper"), speeds)
    assert total([*each, views], speeds.gpu).hours == pytest.approx(
        one_pass + 90 * 1_281_167 / vit_speed() / HOUR
    )
    kept = estimate(cases[0], speeds, stored=frozenset({"train"}))
    assert kept.hours == pytest.approx(50_000 / vit_speed() / HOUR)


def test_random_weights_are_extracted_anew_for_each_seed(catalog: Catalog) -> None:
    frozen = case_of(KnnRecipe(), "knn")
    random = VIT.model_copy(update={"arguments": {"pretrained": False}})
    once = estimate(frozen, Speeds(), runs=2).hours
    twice = estimate(replace(frozen, backbone=random), Speeds(), runs=2).hours
    assert once is not None
    assert twice == pytest.approx(2 * once)


def test_detection_follows_area_and_heads() -> None:
    small, large = (
        estimate(
            case_of(DetectionRecipe(augmentation="lsj", image_size=size), "detection"), Speeds()
        )
        for size in (512, 1024)
    )
    frozen = estimate(
        case_of(FrozenDetectionRecipe(augmentation="lsj", image_size=1024), "detection_frozen"),
        Speeds(),
    )
    assert small.hours
    assert large.hours
    assert frozen.hours
    assert large.hours == pytest.approx(4 * small.hours, rel=0.12)
    assert frozen.hours < large.hours
    assert frozen.memory_gib
    assert large.memory_gib
    assert frozen.memory_gib < large.memory_gib


def test_unknown_costs_are_said_and_refuse_nothing() -> None:
    unsized = IMAGENET.model_copy(update={"train_size": None})
    of_unsized = estimate(replace(case_of(KnnRecipe(), "knn"), dataset=unsized), Speeds())
    assert (of_unsized.hours, of_unsized.basis) == (None, "the dataset's sizes are not known")
    broken = VIT.model_copy(update={"source": "no_such_package:net"})
    of_broken = estimate(replace(case_of(KnnRecipe(), "knn"), backbone=broken), Speeds())
    assert of_broken.hours is None
    whole = total([of_unsized, of_broken], DEFAULT_GPU)
    assert (whole.hours, whole.unknown) == (0, 2)
    assert not refusal([of_unsized, of_broken], DEFAULT_GPU, 0.0)


def test_sizes_of_shipped_data(catalog: Catalog) -> None:
    for entry in catalog.datasets.values():
        if entry.needs:
            continue
        assert entry.train_size
        data: Any = load_dataset(entry)
        train = data.database if entry.kind == "retrieval" else data.train
        assert len(train) == entry.train_size
        if entry.kind == "shift":
            assert sum(len(shift.split) for shift in data.shifts) == entry.shift_size


def test_smoke_costs_next_to_nothing(catalog: Catalog) -> None:
    cases = Plan(catalog, Selection()).all_cases()
    estimates = [estimate(case, Speeds("A100"), runs=case.reference_seeds) for case in cases]
    whole = total(estimates, "A100")
    assert whole.unknown == 0
    assert whole.hours > 0
    assert whole.high < 0.5
    assert not refusal(estimates, "A100", 0.5)
