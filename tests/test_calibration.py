"""Calibration metrics against independent implementations, and on data of known calibration."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from bob.artifacts.classes import NAME, class_table, worst_class
from bob.artifacts.files import result_record
from bob.case import Case, Context, Result
from bob.catalog import Catalog
from bob.ledger.records import Recorded
from bob.metrics.calibration import (
    TEMPERATURES,
    calibration_metrics,
    class_accuracies,
    equal_mass_error,
    equal_width_error,
    fit_temperature,
    fit_vote_temperature,
)
from bob.metrics.classification import outcomes
from bob.metrics.draws import draw_metrics, mean_class_accuracies, score_draw
from bob.plan import Plan, Selection
from bob.run import run_case
from bob.tasks._spare import MOST, spare_rows
from bob.tracking.projection import finished


def drawn(
    seed: int, *, count: int = 200, classes: int = 7, spread: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(count, classes, generator=generator)
    targets = torch.randint(classes, (count,), generator=generator)
    return logits, targets


def metrics_of(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    names = [str(label) for label in range(logits.shape[1])]
    return calibration_metrics(outcomes(logits, targets, names))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 7, 40])
def test_agreement_with_scikit_learn_and_torchmetrics(seed: int, classes: int) -> None:
    logits, targets = drawn(seed, classes=classes)
    found = metrics_of(logits, targets)
    shares = logits.double().softmax(dim=1).numpy()
    assert found["nll"] == pytest.approx(log_loss(targets, shares, labels=range(classes)), rel=1e-5)
    theirs = brier_score_loss(targets, shares, labels=range(classes), scale_by_half=False)
    assert found["brier"] == pytest.approx(theirs, rel=1e-5)
    theirs = multiclass_calibration_error(
        torch.from_numpy(shares), targets, num_classes=classes, n_bins=15, norm="l1"
    )
    assert found["ece"] == pytest.approx(float(theirs), abs=1e-5)
    right = shares.argmax(axis=1) == targets.numpy()
    accuracies = [right[targets.numpy() == label].mean() for label in set(targets.tolist())]
    assert found["worst_class_top1"] == pytest.approx(min(accuracies))


@given(st.integers(1, 400), st.integers(0, 2**20))
@settings(deadline=None, max_examples=50)
def test_equal_mass_by_hand(count: int, seed: int) -> None:
    """Where all confidences differ, bins are the parts of the sorted samples."""
    generator = np.random.default_rng(seed)
    confidences = np.unique(generator.random(count))
    correct = generator.random(len(confidences)) < confidences
    size = len(confidences)
    parts = [[i for i in range(size) if i * 15 // size == bin_] for bin_ in range(15)]
    expected = sum(
        abs(correct[part].mean() - confidences[part].mean()) * len(part) / size
        for part in parts
        if part
    )
    assert equal_mass_error(confidences, correct) == pytest.approx(expected)


def test_equal_confidences_stay_together() -> None:
    confidences, correct = np.full(100, 0.7), np.arange(100) < 70
    assert equal_mass_error(confidences, correct) == pytest.approx(0)
    assert equal_width_error(confidences, correct) == pytest.approx(0)


def test_who_tells_the_truth_has_no_error() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200_000, 5, generator=generator)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    found = metrics_of(logits, targets)
    assert found["ece"] < 0.005
    assert found["ece_equal_mass"] < 0.006
    assert fit_temperature(logits, targets) == pytest.approx(1.0, abs=0.02)
    assert fit_temperature(3 * logits, targets) == pytest.approx(3.0, rel=0.02)
    assert fit_temperature(logits / 4, targets) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_the_temperature_is_that_of_another_minimiser(factor: float, classes: int) -> None:
    honest = torch.randn(400, classes, generator=torch.Generator().manual_seed(classes))
    targets = torch.multinomial(
        honest.softmax(dim=1), 1, generator=torch.Generator().manual_seed(3)
    )[:, 0]
    logits = factor * honest
    values, rows = logits.double().numpy(), np.arange(400)

    def loss(logarithm: np.ndarray) -> float:
        scaled = log_softmax(values / np.exp(logarithm[0]), axis=1)
        return float(-scaled[rows, targets.numpy()].mean())

    theirs = minimize(loss, x0=[0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    assert fit_temperature(logits, targets) == pytest.approx(np.exp(theirs.x[0]), rel=1e-3)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_of_votes_has_the_least_brier_score(factor: float) -> None:
    """Against scikit-learn's score at every temperature of a fine grid."""
    generator = torch.Generator().manual_seed(5)
    honest = 2 * torch.randn(300, 12, generator=generator)
    honest = honest.masked_fill(honest < honest.topk(4, dim=1).values[:, -1:], -torch.inf)
    targets = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    targets[:20] = honest[:20].argmin(dim=1)  # classes that nobody voted for
    shares = (factor * honest).double().softmax(dim=1)
    assert (shares.gather(1, targets[:, None]) == 0).sum() == 20

    def brier(temperature: float) -> float:
        scaled = shares.numpy() ** (1 / temperature)
        scaled /= scaled.sum(axis=1, keepdims=True)
        return float(brier_score_loss(targets, scaled, labels=range(12), scale_by_half=False))

    grid = np.geomspace(0.2, 20, 401)
    best = grid[np.argmin([brier(value) for value in grid])]
    found = fit_vote_temperature(shares, targets)
    assert found is not None
    assert found == pytest.approx(best, rel=0.015)
    assert brier(found) <= brier(best) + 1e-9
    # the score of a split is that of its outcomes
    scaled = shares.log() / found
    assert metrics_of(scaled, targets)["brier"] == pytest.approx(brier(found), rel=1e-5)


def test_votes_without_a_temperature() -> None:
    nobody = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    assert fit_vote_temperature(*nobody) is None
    broken = torch.tensor([[float("nan"), 1.0]])
    assert fit_vote_temperature(broken, torch.tensor([0])) is None
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8]])  # nothing wrong: as cold as may be
    assert fit_vote_temperature(sure, torch.tensor([0, 1])) < 0.2  # type: ignore[operator]


def test_a_temperature_mends_what_is_too_sure_and_changes_no_prediction() -> None:
    generator = torch.Generator().manual_seed(1)
    honest = torch.randn(40_000, 10, generator=generator)
    targets = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    held, test = slice(0, 20_000), slice(20_000, None)
    names = [str(label) for label in range(10)]
    sure = 5 * honest
    temperature = fit_temperature(sure[held], targets[held])
    scaled = outcomes(sure[test], targets[test], names, temperature=temperature)
    plain = outcomes(sure[test], targets[test], names)
    found = calibration_metrics(scaled)
    assert found["ece"] > 0.4
    assert found["ece_scaled"] < 0.02
    np.testing.assert_array_equal(scaled.predictions, plain.predictions)
    assert "ece_scaled" not in calibration_metrics(plain)


def test_a_true_class_of_no_probability_is_infinitely_unlikely() -> None:
    logits = torch.tensor([[0.0, -float("inf")], [0.0, 0.0]])
    found = metrics_of(logits, torch.tensor([1, 0]))
    assert found["nll"] == float("inf")
    assert found["brier"] == pytest.approx((2.0 + 0.5) / 2)


def test_odd_shapes() -> None:
    one_class = metrics_of(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    assert one_class["ece"] == 0
    assert one_class["worst_class_top1"] == 1
    assert class_accuracies(np.array([5, 5, 9]), np.array([True, False, True])) == {5: 0.5, 9: 1.0}
    nan = metrics_of(torch.full((2, 3), float("nan")), torch.tensor([0, 1]))
    assert np.isnan(nan["ece"])
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) is None
    assert fit_temperature(torch.full((2, 3), float("nan")), torch.tensor([0, 1])) is None
    sure = fit_temperature(torch.eye(3) * 5, torch.arange(3))  # nothing wrong: as cold as may be
    assert sure == pytest.approx(TEMPERATURES[0], rel=0.01)


def test_spare_images_are_fixed_and_none_of_those_taken() -> None:
    targets = torch.arange(20_000) % 10
    rows = spare_rows(targets)
    assert len(rows) == MOST
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, spare_rows(targets.clone()))
    counts = np.bincount(targets[torch.from_numpy(rows)])
    assert counts.min() > 0.8 * MOST / 10  # from everywhere, not the first ones
    taken = np.arange(0, 20_000, 2)
    left = spare_rows(targets, taken)
    assert len(left) == MOST
    assert not set(left.tolist()) & set(taken.tolist())
    assert len(spare_rows(targets[:50], np.arange(40))) == 10
    assert len(spare_rows(targets[:50], np.arange(50))) == 0


def test_draws_are_means_over_settings_of_means_over_draws() -> None:
    scores = {}
    for place, (setting, count) in enumerate((("1shot", 3), ("10pct", 2))):
        scores[setting] = [
            score_draw(*drawn(10 * place + draw), list("abcdefg"), temperature=2.0 + draw)
            for draw in range(count)
        ]
    found = draw_metrics(scores)
    for name in ("nll", "brier", "ece", "ece_equal_mass", "temperature", "ece_scaled"):
        means = [fmean(draw.calibration[name] for draw in draws) for draws in scores.values()]
        assert found[name] == pytest.approx(fmean(means))
    assert found["temperature"] == pytest.approx((3.0 + 2.5) / 2)
    assert found["top1"] == pytest.approx((found["top1_1shot"] + found["top1_10pct"]) / 2)
    classes = mean_class_accuracies(scores)
    assert set(classes) == set(range(7))
    assert found["worst_class_top1"] == min(classes.values())
    first = outcomes(*drawn(0), list("abcdefg"), temperature=2.0)
    assert scores["1shot"][0].calibration == calibration_metrics(first)
    scores["10pct"][1] = score_draw(*drawn(11), list("abcdefg"))
    assert not {"temperature", "ece_scaled"} & draw_metrics(scores).keys()


def test_the_worst_class_has_a_name_and_of_equal_ones_it_is_the_first() -> None:
    names = ["plain", "so, so", 'a "b"', "untested"]
    files = {NAME: class_table({0: 0.9, 2: 0.25, 1: 0.25}, [10, 4, 8, 0], names)}
    assert worst_class(files) == "so, so"
    assert files["classes.csv"].decode().splitlines() == [
        "class,test_images,top1", '"so, so",4,0.25', '"a ""b""",8,0.25', "plain,10,0.9",
    ]  # fmt: skip
    assert worst_class({}) is None


SCALED = {"knn", "linear_probe", "low_shot"}


@pytest.mark.parametrize(
    "task", ["knn", "linear_probe", "low_shot", "finetune", "low_shot_finetune"]
)
def test_every_classification_case_has_them(catalog: Catalog, tiny_case: Case, task: str) -> None:
    case = tiny_case
    if task != "finetune":
        case = Plan(catalog, Selection(backbones=("resnet_micro_glyphs",))).cases(task)[0]
    if task == "low_shot_finetune":
        quick = {"draws": 2, "least_updates": 2, "epochs": 1}
        case = replace(case, recipe=case.recipe.model_copy(update=quick))
    result = run_case(case, Context(accelerator="cpu", workers=0))
    assert result.failure is None
    names = {"nll", "brier", "ece", "ece_equal_mass", "worst_class_top1"}
    assert names <= result.metrics.keys()
    for name in ("temperature", "ece_scaled"):
        assert (name in result.metrics) == (task in SCALED)
    if task in ("linear_probe", "finetune"):
        assert result.metrics["nll"] == pytest.approx(result.metrics["test_loss"], rel=1e-4)
    if task == "low_shot":  # test digits are other people's, whom knn believes
        assert result.metrics["ece_scaled"] < result.metrics["ece"]
    if task == "linear_probe":  # chosen on held-out images, it has little to gain
        assert result.metrics["ece_scaled"] < result.metrics["ece"] + 0.005
    worst = named_worst(result)
    assert result_record(result)["worst_class"] == worst
    recorded = Recorded(entry="", session="", role="check", time="", result=result)
    assert finished(recorded).tags["bob.worst_class"] == worst


def named_worst(result: Result) -> str:
    """The class that the case names, after its accuracy has been reckoned anew."""
    name = worst_class(result.files)
    assert name is not None
    table = csv.DictReader(io.StringIO(result.files["classes.csv"].decode()))
    value = next(float(row["top1"]) for row in table if row["class"] == name)
    assert value == pytest.approx(result.metrics["worst_class_top1"], abs=1e-6)
    if result.outcomes is not None:
        label = result.outcomes.class_names.index(name)
        mine = result.outcomes.targets == label
        assert value == pytest.approx(result.outcomes.correct[mine].mean(), abs=1e-6)
    return name


def test_a_draw_of_everything_leaves_nothing_to_fit_a_temperature_on(catalog: Catalog) -> None:
    (case,) = Plan(catalog, Selection(backbones=("resnet_micro_glyphs",))).cases("low_shot")
    whole = {"shots": (1,), "fractions": (1.0,), "draws": 1}
    case = replace(case, recipe=case.recipe.model_copy(update=whole))
    result = run_case(case, Context(accelerator="cpu", workers=0))
    assert result.failure is None
    assert "ece" in result.metrics
    assert "ece_scaled" not in result.metrics
    first, last = csv.DictReader(io.StringIO(result.files["low_shot.csv"].decode()))
    assert float(first["ece_scaled"]) >= 0
    assert last["images"] == "1200"
    assert last["ece_scaled"] == last["temperature"] == ""
