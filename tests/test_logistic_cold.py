"""Fits that start from nothing at a large C, against scikit-learn's in double precision."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bob.heads.logistic import LinearHead, fit
from tests.micro_features import features_of

Rows = tuple[torch.Tensor, torch.Tensor]


@cache
def rows_of(name: str) -> Rows:
    if name == "noise":
        generator = torch.Generator().manual_seed(0)
        return (
            torch.randn(400, 60, generator=generator) + 2,
            torch.randint(10, (400,), generator=generator),
        )
    backbone, dataset = name.split("/")
    found = features_of(backbone, dataset)
    return found.train, found.targets


def objective(head: LinearHead, rows: Rows, c: float) -> float:
    features, targets = rows
    logits = features.double() @ head.weight.double().T + head.bias.double()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return float(c * loss + head.weight.double().square().sum() / 2)


@pytest.mark.parametrize("c", [3.0, 10.0, 100.0])
@pytest.mark.parametrize(
    "name",
    ["resnet_micro_glyphs/digits", "swin_micro_glyphs/digits", "vit_micro_random/digits", "noise"],
)  # fmt: skip
def test_a_cold_fit_at_a_large_c_is_scikit_learns(name: str, c: float) -> None:
    rows = features, targets = rows_of(name)
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-9, max_iter=500)
    model.fit(features.double().numpy(), targets.numpy())
    known = LinearHead(torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))
    least = objective(known, rows, c)
    single = fit(features, targets, classes=10, c=c)
    fine = fit(
        features, targets, classes=10, c=c, dtype=torch.float64, tolerance=1e-10, max_iterations=500
    )
    assert single.converged
    assert fine.converged
    assert objective(single, rows, c) == pytest.approx(least, rel=1e-4)
    assert objective(fine, rows, c) == pytest.approx(least, rel=1e-8)
    wanted = known.logits(features.double()).softmax(1)
    close = fine.logits(features.double()).softmax(1) - wanted
    near = single.logits(features).softmax(1).double() - wanted
    assert float(close.abs().max()) < 1e-4
    assert float(near.abs().max()) < 2e-2


def test_a_fit_that_ran_out_of_steps_says_so() -> None:
    features, targets = rows_of("vit_micro_random/digits")
    head = fit(features, targets, classes=10, c=100.0, max_iterations=1)
    assert not head.converged
    assert head.float().converged is False
