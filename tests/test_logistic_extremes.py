"""The probe's solver on features of low rank and of any scale, against scikit-learn."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from bob.heads._spectrum import eigen, spectrum
from bob.heads.few_shot import fit_few
from bob.heads.logistic import C_VALUES, FitRows, HeadPath, LinearHead, fit

# Features of EfficientNet-Lite1 with ImageNet weights on the first image of each class of a draw
# from Fashion-MNIST, fed 32 pixels wide, centred and divided by their root mean square. 1210 of
# 1280 columns are zero. LAPACK's divide and conquer, as MKL 2024.2 has it, gives up on their
# covariance.
LITE1 = Path(__file__).parent / "data" / "efficientnet_lite1_ten_images.npz"

KINDS = [
    "plain", "zero columns", "equal columns", "equal rows in part", "equal rows", "constant",
    "rectified", "one sample each",
]  # fmt: skip


def ten_images() -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(LITE1) as arrays:
        return torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["targets"])


def draw(seed: int, n: int, d: int, classes: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of about unit scale; the classes overlap unless there are few rows."""
    rng = np.random.default_rng(seed)
    rest = rng.integers(classes, size=n - classes)
    if kind == "one sample each":
        rest[:] = 0
    targets = np.concatenate([np.arange(classes), rest])
    rows = rng.normal(size=(classes, d))[targets] + 2 * rng.normal(size=(n, d)) + 3
    if kind == "zero columns":
        rows[:, rng.random(d) < 0.7] = 0
    elif kind == "equal columns":
        rows = rows[:, rng.integers(max(1, d // 4), size=d)]
    elif kind == "equal rows in part":
        rows = rows[rng.integers(max(2, n // 3), size=n)]
    elif kind == "equal rows":
        rows[:] = rows[0]
    elif kind == "constant":
        rows[:] = 7
    elif kind == "rectified":
        rows = np.maximum(rows - 6, 0)
    return torch.from_numpy(rows), torch.from_numpy(targets)


def objective(head: LinearHead, features: torch.Tensor, targets: torch.Tensor, c: float) -> float:
    logits = features.double() @ head.weight.double().T + head.bias.double()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return float(c * loss + head.weight.double().square().sum() / 2)


def least(features: torch.Tensor, targets: torch.Tensor, c: float) -> float:
    """The least objective that scikit-learn finds in double precision; infinite where it fails.

    It is given features of unit scale in an orthonormal basis of their rows, and the C under which
    these are the same problem.
    """
    scale = float(features.abs().max()) or 1.0
    left, sizes, axes = np.linalg.svd(features.double().numpy() / scale, full_matrices=False)
    model = LogisticRegression(C=c * scale**2, solver="newton-cholesky", tol=1e-9, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(left * sizes, targets.numpy())
        except (ValueError, np.linalg.LinAlgError):
            return math.inf
    weight = torch.from_numpy(model.coef_ @ axes) / scale
    head = LinearHead(weight, torch.from_numpy(model.intercept_))
    found = objective(head, features, targets, c)
    return found if math.isfinite(found) else math.inf


@pytest.mark.parametrize(
    ("scale", "c"), [(1e-25, 1.0), (1e-3, 1e5), (1, 1e-3), (1, 1.0), (1e3, 1e-6), (1e25, 1e-50)]
)
def test_ten_images_with_mostly_zero_features(scale: float, c: float) -> None:
    features, targets = ten_images()
    features = features * scale
    head = fit(features, targets, classes=10, c=c)
    best = least(features, targets, c)
    assert math.isfinite(best)
    assert objective(head, features, targets, c) == pytest.approx(best, rel=1e-4)
    idle = head.weight[:, (features == 0).all(dim=0)]
    assert float(idle.abs().max()) <= 1e-5 * float(head.weight.abs().max())


def test_the_path_and_a_warm_start_on_ten_images() -> None:
    features, targets = ten_images()
    heads = dict(HeadPath(FitRows(features, targets, classes=10), values=C_VALUES[::11]))
    for c, head in heads.items():
        assert torch.isfinite(head.weight).all()
        if c <= 10:
            best = least(features, targets, c)
            assert objective(head, features, targets, c) == pytest.approx(best, rel=1e-4)
    warm = fit(features, targets, classes=10, c=1.0, init=heads[C_VALUES[22]])
    cold = fit(features, targets, classes=10, c=1.0)
    torch.testing.assert_close(warm.weight, cold.weight, atol=1e-3, rtol=0)


def test_a_matrix_that_divide_and_conquer_gives_up_on() -> None:
    features, _ = ten_images()
    centred = features - features.mean(0)
    scatter = (centred.T @ centred).double()
    values, vectors = eigen(scatter)
    identity = torch.eye(len(values), dtype=torch.float64)
    torch.testing.assert_close(vectors.T @ vectors, identity, atol=1e-10, rtol=0)
    torch.testing.assert_close(vectors * values @ vectors.T, scatter, atol=1e-8, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_axes_are_orthonormal_and_lose_nothing(scale: float) -> None:
    for features in (ten_images()[0], draw(0, 60, 9, 3, "plain")[0].float()):
        found = spectrum(features * scale)
        assert math.frexp(found.scale)[0] == 0.5
        identity = torch.eye(found.basis.shape[1])
        torch.testing.assert_close(found.basis.T @ found.basis, identity, atol=1e-4, rtol=0)
        rebuilt = (found.rows @ found.basis.T + found.mean) * found.scale
        torch.testing.assert_close(rebuilt, features * scale, atol=2e-5 * scale, rtol=1e-4)
        variances = found.rows.double().var(dim=0, correction=0)
        largest = float(variances.max())
        torch.testing.assert_close(variances, found.variances, atol=1e-5 * largest, rtol=0)


@settings(deadline=None, max_examples=60, derandomize=True)
@example(seed=506, n=5, d=4, classes=4, kind="equal columns", exponent=2, c=31.622776601683793)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(5, 40),
    d=st.integers(1, 60),
    classes=st.integers(3, 4),
    kind=st.sampled_from(KINDS),
    exponent=st.integers(-30, 30),
    c=st.sampled_from(C_VALUES),
)
def test_any_rank_and_scale(
    seed: int, n: int, d: int, classes: int, kind: str, exponent: int, c: float
) -> None:
    unit, targets = draw(seed, n, d, classes, kind)
    features = (unit * 10.0**exponent).float()
    head = fit(features, targets, classes=classes, c=c)
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()
    idle = LinearHead(torch.zeros(classes, d), torch.zeros(classes))
    # Where the penalty hardly matters, the steps of single precision end before the least objective
    # is reached: of the example above by 3 % of the idle head's.
    strength = c * float(features.double().abs().max()) ** 2
    share = 1e-5 if strength < 1e2 else 5e-2 if strength < 1e10 else 0.25
    bound = least(features, targets, c) * (1 + 1e-4) + share * objective(idle, features, targets, c)
    assert objective(head, features, targets, c) <= bound


def test_huge_features_are_not_given_up_for_the_class_shares() -> None:
    features, targets = draw(5, 54, 5, 4, "plain")
    for scale in (1e5, 1e8, 1e14, 1e37):
        scaled = (features * scale).float()
        head = fit(scaled, targets, classes=4, c=1.0)
        # The penalty is nothing beside the loss, which has its least value at finite logits.
        assert objective(head, scaled, targets, 1.0) == pytest.approx(
            least(scaled, targets, 1.0), rel=1e-3
        )


def test_features_from_end_to_end_of_single_precision() -> None:
    largest = torch.finfo(torch.float32).max
    features = torch.tensor([[largest, 0.0], [-largest, 1.0], [0.0, largest], [0.0, -largest]])
    targets = torch.tensor([0, 1, 2, 3])
    head = fit(features, targets, classes=4, c=1.0)
    assert head.logits(features / 4).argmax(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e15, 1e25])
def test_a_few_shot_probe_does_not_depend_on_the_scale(scale: float) -> None:
    features, targets = (part for part in draw(1, 20, 30, 4, "rectified"))
    plain = fit_few(features.float(), targets, classes=4, c=1.0)
    scaled = fit_few((features * scale).float(), targets, classes=4, c=1.0)
    torch.testing.assert_close(
        scaled.logits((features * scale).float()), plain.logits(features.float()), atol=1e-3, rtol=0
    )


def test_a_few_shot_probe_on_constant_features_says_nothing() -> None:
    features, targets = torch.full((8, 5), 1e-20), torch.arange(8) % 4
    logits = fit_few(features, targets, classes=4, c=1.0).logits(torch.ones(3, 5))
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((3, 4), 0.25))
