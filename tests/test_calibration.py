"""Calibration metrics against independent implementations, and on data of known calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from bob.case import Case, Context
from bob.catalog import Catalog
from bob.metrics.calibration import (
    TEMPERATURES,
    calibration_metrics,
    class_accuracies,
    equal_mass_error,
    equal_width_error,
    fit_temperature,
)
from bob.metrics.classification import outcomes
from bob.plan import Plan, Selection
from bob.run import run_case


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
    truth = np.eye(classes)[targets.numpy()]
    assert found["nll"] == pytest.approx(log_loss(targets, shares, labels=range(classes)), rel=1e-5)
    assert found["brier"] == pytest.approx(np.square(shares - truth).sum(axis=1).mean(), rel=1e-5)
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


@pytest.mark.parametrize("task", ["knn", "linear_probe", "finetune"])
def test_every_classification_case_has_them(catalog: Catalog, tiny_case: Case, task: str) -> None:
    case = tiny_case
    if task != "finetune":
        case = Plan(catalog, Selection(backbones=("resnet_micro_glyphs",))).cases(task)[0]
    result = run_case(case, Context(accelerator="cpu", workers=0))
    assert result.failure is None
    names = {"nll", "brier", "ece", "ece_equal_mass", "worst_class_top1"}
    assert names <= result.metrics.keys()
    assert ("ece_scaled" in result.metrics) == (task == "linear_probe")
    if task != "knn":
        assert result.metrics["nll"] == pytest.approx(result.metrics["test_loss"], rel=1e-4)
