"""Scores of several labels an image, from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from bob.errors import BobError
from bob.metrics.multilabel import (
    KnownLabelsLoss,
    chance_bound,
    label_aurocs,
    multilabel_metrics,
    scorable,
)
from bob.protocols.finetune_multilabel import MultilabelRecipe


def test_areas_are_scikit_learns_whatever_the_size_of_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (60, 3), generator=generator).float()
    logits = 200 * (torch.randn(60, 3, generator=generator) + targets)
    logits[:20] = logits[:20].round(decimals=-2)  # ties
    areas = label_aurocs(logits, targets, (0, 1, 2))
    for index, area in areas.items():
        assert area == pytest.approx(roc_auc_score(targets[:, index], logits[:, index]))
    assert multilabel_metrics(logits, targets, (0, 2))["mean_auroc"] == pytest.approx(
        (areas[0] + areas[2]) / 2
    )


def test_labels_without_both_kinds_are_not_scored() -> None:
    targets = torch.tensor([[0.0, 1, 0], [1, 1, math.nan], [0, 1, math.nan]])
    assert scorable(targets, "abc") == (0,)
    with pytest.raises(BobError, match=r"None of b, c can be scored"):
        scorable(targets[:, 1:], "bc")


def test_unknown_labels_neither_cost_nor_count() -> None:
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]], requires_grad=True)
    targets = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    loss = KnownLabelsLoss()(logits, targets)
    known = [math.log1p(math.exp(-0.3)), math.log1p(math.exp(2.0)), math.log1p(math.exp(-0.5))]
    assert loss.item() == pytest.approx(sum(known) / 3)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert label_aurocs(torch.tensor([[1.0], [2.0], [9.0]]),
                        torch.tensor([[0.0], [1.0], [math.nan]]), (0,)) == {0: 1.0}  # fmt: skip


def test_logits_that_are_not_finite_give_no_score() -> None:
    logits = torch.tensor([[0.0], [math.nan], [1.0]])
    targets = torch.tensor([[0.0], [1.0], [1.0]])
    assert math.isnan(multilabel_metrics(logits, targets, (0,))["mean_auroc"])


def test_guesses_stay_below_the_bound() -> None:
    random = np.random.default_rng(0)
    targets = torch.zeros(202, 2)
    targets[:60, 0] = targets[100:130, 1] = 1
    bound = chance_bound(targets, (0, 1))
    assert 0.55 < bound < 0.75
    guesses = [
        multilabel_metrics(torch.from_numpy(random.random((202, 2))), targets, (0, 1))["mean_auroc"]
        for _ in range(400)
    ]
    assert max(guesses) < bound
    assert sum(guesses) / len(guesses) == pytest.approx(0.5, abs=0.01)


def test_labels_are_not_mixed() -> None:
    assert MultilabelRecipe().weight_decay == 1e-3
    with pytest.raises(ValidationError, match="mixup"):
        MultilabelRecipe(mixup=0.8)
