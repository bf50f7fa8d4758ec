from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from bob.errors import BobError
from bob.heads.logistic import C_VALUES, FitRows, HeadPath, LinearHead, fit

few = settings(deadline=None, max_examples=15)


def problem(
    seed: int, n: int, d: int, classes: int, overlap: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows around class means, every class present, mean not zero."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, d, generator=generator)
    rest = torch.randint(classes, (n - classes,), generator=generator)
    targets = torch.cat([torch.arange(classes), rest])
    noise = overlap * torch.randn(n, d, generator=generator)
    return means[targets] + noise + 3, targets


def objective(head: LinearHead, features: torch.Tensor, targets: torch.Tensor, c: float) -> float:
    weight, bias = head.weight.double(), head.bias.double()
    logits = features.double() @ weight.T + bias
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return float(c * loss + weight.square().sum() / 2)


def exact(
    features: torch.Tensor, targets: torch.Tensor, c: float, solver: str = "newton-cg"
) -> LinearHead:
    """scikit-learn's double-precision solution; three classes or more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=c, solver=solver, tol=1e-10, max_iter=2000)
        model.fit(features.double().numpy(), targets.numpy())
    return LinearHead(torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))


def probabilities(head: LinearHead, features: torch.Tensor) -> torch.Tensor:
    return head.logits(features.to(head.weight.dtype)).softmax(1).double()


def test_values_are_those_of_dinov2() -> None:
    # Six digits, so that a recipe's hash does not hang on a platform's power function.
    np.testing.assert_allclose(C_VALUES, np.logspace(-6, 5, 45), rtol=5e-6)


@few
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(12, 150),
    d=st.integers(1, 40),
    classes=st.integers(3, 8),
    exponent=st.floats(-4, 1.5),
)
def test_minimises_the_objective_of_scikit_learn(
    seed: int, n: int, d: int, classes: int, exponent: float
) -> None:
    features, targets = problem(seed, n, d, classes)
    c = 10**exponent
    head, reference = fit(features, targets, classes=classes, c=c), exact(features, targets, c)
    least = objective(reference, features, targets, c)
    assert objective(head, features, targets, c) <= least * (1 + 1e-4)
    assert objective(head, features, targets, c) >= least * (1 - 1e-4)


def test_agrees_with_scikit_learn_row_by_row() -> None:
    features, targets = problem(0, 1500, 30, 7, overlap=2.5)
    head = fit(features, targets, classes=7, c=0.1, tolerance=1e-8)
    reference = exact(features, targets, 0.1)
    ours, theirs = probabilities(head, features), probabilities(reference, features)
    assert 0.5 < float((theirs.argmax(1) == targets).double().mean()) < 0.98
    assert float((ours - theirs).abs().max()) < 2e-3
    assert float((ours.argmax(1) == theirs.argmax(1)).double().mean()) >= 0.999
    torch.testing.assert_close(head.weight.double(), reference.weight, atol=2e-3, rtol=0)


def test_stated_tolerance_bounds_the_excess() -> None:
    features, targets = problem(5, 1200, 40, 10, overlap=3)
    for c in (0.01, 0.1, 1.0, 10.0):
        least = objective(exact(features, targets, c), features, targets, c)
        excess = objective(fit(features, targets, classes=10, c=c), features, targets, c) / least
        assert excess - 1 < 1e-4


def test_warm_path_equals_cold_fits() -> None:
    features, targets = problem(1, 600, 24, 6, overlap=3)
    values = [float(c) for c in np.logspace(-4, 2, 13)]
    path = list(HeadPath(FitRows(features, targets, classes=6), values=values))
    assert [c for c, _ in path] == values
    for c, warm in path:
        cold = fit(features, targets, classes=6, c=c)
        least = objective(cold, features, targets, c)
        assert objective(warm, features, targets, c) == pytest.approx(least, rel=1e-4)
        difference = probabilities(warm, features) - probabilities(cold, features)
        assert float(difference.abs().max()) < 0.02


def test_start_does_not_move_the_solution_and_saves_steps() -> None:
    features, targets = problem(2, 500, 20, 5, overlap=3)
    cold = fit(features, targets, classes=5, c=0.3)
    warm = fit(features, targets, classes=5, c=0.3, init=cold, max_iterations=1)
    idle = LinearHead(torch.zeros(5, 20), torch.zeros(5))
    hasty = fit(features, targets, classes=5, c=0.3, init=idle, max_iterations=1)
    least = objective(cold, features, targets, 0.3)
    assert objective(warm, features, targets, 0.3) <= least * (1 + 1e-6)
    assert objective(hasty, features, targets, 0.3) > least * (1 + 1e-3)
    assert (cold.converged, hasty.converged) == (True, False)


def test_two_classes_are_a_softmax_over_two() -> None:
    features, targets = problem(3, 300, 10, 2, overlap=3)
    head = fit(features, targets, classes=2, c=0.05, tolerance=1e-8)
    binary = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(
        features.double().numpy(), targets.numpy()
    )
    theirs = binary.predict_proba(features.double().numpy())
    np.testing.assert_allclose(probabilities(head, features).numpy(), theirs, atol=1e-3)


@few
@given(seed=st.integers(0, 10_000), absent=st.integers(0, 4), scale=st.sampled_from([1e-3, 1, 1e3]))
def test_absent_class_is_never_predicted_and_changes_nothing(
    seed: int, absent: int, scale: float
) -> None:
    features, targets = problem(seed, 40, 6, 4)
    features = features * scale
    kept = [label for label in range(5) if label != absent]
    moved = torch.tensor(kept)[targets]
    head, plain = (
        fit(features, moved, classes=5, c=0.1),
        fit(features, targets, classes=4, c=0.1),
    )
    far_features = torch.randn(200, 6, generator=torch.Generator().manual_seed(seed)) * 100 * scale
    logits = head.logits(far_features)
    assert torch.isfinite(logits).all()
    assert not (logits.argmax(1) == absent).any()
    torch.testing.assert_close(head.weight[kept], plain.weight)
    torch.testing.assert_close(head.bias[kept], plain.bias)


def test_start_from_rows_that_lack_a_class() -> None:
    features, targets = problem(6, 400, 12, 6, overlap=3)
    lacking = targets != 2
    init = fit(features[lacking], targets[lacking], classes=6, c=1.0)
    warm = fit(features, targets, classes=6, c=1.0, init=init, max_iterations=20)
    least = objective(exact(features, targets, 1.0), features, targets, 1.0)
    assert objective(warm, features, targets, 1.0) == pytest.approx(least, rel=1e-4)


@few
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from(["wide", "constant", "equal rows", "constant column", "one class"]),
)
def test_degenerate_problems_stay_finite(seed: int, shape: str) -> None:
    features, targets = problem(seed, 10, 96, 10)
    if shape == "constant":
        features = torch.zeros_like(features) + 7
    elif shape == "equal rows":
        features = features[:1].expand(10, -1)
    elif shape == "constant column":
        features = torch.cat([features, torch.full((10, 1), 1e3)], 1)
    elif shape == "one class":
        targets = torch.full_like(targets, 4)
    heads = [
        head for _, head in HeadPath(FitRows(features, targets, classes=10), values=C_VALUES[::8])
    ]
    for head in heads:
        assert torch.isfinite(head.weight).all()
        assert torch.isfinite(head.bias).all()
    if shape in ("wide", "constant column", "one class"):
        assert (heads[-1].logits(features).argmax(1) == targets).all()
    else:
        assert float(heads[-1].weight.abs().max()) < 1e-3
        torch.testing.assert_close(
            probabilities(heads[-1], features), torch.full((10, 10), 0.1).double()
        )


@few
@given(seed=st.integers(0, 10_000), exponent=st.floats(-3, 0))
def test_badly_scaled_columns(seed: int, exponent: float) -> None:
    features, targets = problem(seed, 120, 8, 4, overlap=2)
    features = features * torch.logspace(-3, 3, 8)
    c = 10**exponent
    head = fit(features, targets, classes=4, c=c)
    reference = exact(features, targets, c, solver="newton-cholesky")
    least = objective(reference, features, targets, c)
    assert objective(head, features, targets, c) == pytest.approx(least, rel=2e-4)


@few
@given(seed=st.integers(0, 10_000), shift=st.floats(-300, 300))
def test_intercept_is_not_penalised(seed: int, shift: float) -> None:
    features, targets = problem(seed, 80, 12, 4, overlap=2)
    here, there = (
        fit(moved, targets, classes=4, c=0.1, tolerance=1e-7)
        for moved in (features, features + shift)
    )
    difference = probabilities(here, features) - probabilities(there, features + shift)
    assert float(difference.abs().max()) < 5e-3
    # A class twice as frequent is twice as likely where the features say nothing.
    uneven = torch.tensor([0] * 20 + [1] * 40 + [2] * 20)
    head = fit(torch.full((80, 3), shift), uneven, classes=3, c=1e-4)
    odds = probabilities(head, torch.full((1, 3), shift))[0]
    assert odds.tolist() == pytest.approx([0.25, 0.5, 0.25], abs=2e-3)


@few
@given(seed=st.integers(0, 10_000))
def test_order_of_rows_does_not_matter(seed: int) -> None:
    features, targets = problem(seed, 100, 10, 5, overlap=2)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed + 1))
    here = fit(features, targets, classes=5, c=1.0, tolerance=1e-7)
    there = fit(features[order], targets[order], classes=5, c=1.0, tolerance=1e-7)
    difference = probabilities(here, features) - probabilities(there, features)
    assert float(difference.abs().max()) < 5e-3
    assert torch.equal(here.weight, fit(features, targets, classes=5, c=1.0, tolerance=1e-7).weight)


def test_weights_sum_to_zero_over_classes() -> None:
    features, targets = problem(4, 200, 10, 5)
    head = fit(features, targets, classes=5, c=10.0)
    assert float(head.weight.sum(0).abs().max()) < 1e-5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    features, targets = problem(0, 20, 4, 3)
    features[7, 2] = value
    with pytest.raises(BobError, match=r"1 of 20 feature rows .* row 7") as caught:
        HeadPath(FitRows(features, targets, classes=3))
    assert caught.value.kind == "features"


@pytest.mark.parametrize(
    ("features", "targets"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1])),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(3, 2), torch.tensor([0, 1, 3])),
        (torch.zeros(3, 2), torch.tensor([0, -1, 2])),
    ],
)
def test_input_that_cannot_be_fitted_is_refused(
    features: torch.Tensor, targets: torch.Tensor
) -> None:
    with pytest.raises(BobError) as caught:
        fit(features, targets, classes=3, c=1.0)
    assert caught.value.kind == "features"


@pytest.mark.parametrize("values", [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (math.nan,)])
def test_values_must_be_positive_and_ascend(values: tuple[float, ...]) -> None:
    features, targets = problem(0, 20, 4, 3)
    with pytest.raises(ValueError, match=r"ascend|above 0"):
        HeadPath(FitRows(features, targets, classes=3), values=values)
