"""Accuracy under shift: masks, means, gaps and effective robustness from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bob.catalog.schema import RobustnessBaseline
from bob.datasets import Shift, Split
from bob.metrics.shift import (
    expected_shifted,
    logit,
    masked,
    score_shift,
    shift_chance_bound,
    shift_metrics,
)
from bob.protocols.chance import CHANCE_ALPHA


def shift_of(targets: torch.Tensor, **changes: object) -> Shift:
    split = Split(torch.zeros(len(targets), 3, 2, 2, dtype=torch.uint8), targets)
    return Shift(**{"name": "s", "split": split, "group": "g", **changes})


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), kept=st.sets(st.integers(0, 5), min_size=1))
def test_a_subset_of_classes_masks_the_other_logits(seed: int, kept: set[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = tuple(sorted(kept))
    logits = torch.randn(40, 6, generator=generator)
    source = torch.randn(50, 6, generator=generator)
    targets = torch.tensor(classes)[torch.randint(len(classes), (40,), generator=generator)]
    truth = torch.randint(6, (50,), generator=generator)
    truth[0] = classes[0]
    score = score_shift(shift_of(targets, classes=classes), logits, source, truth)

    def right(row: torch.Tensor, target: int) -> bool:
        return max(classes, key=lambda c: float(row[c])) == target

    hits = [right(row, int(target)) for row, target in zip(logits, targets, strict=True)]
    assert score.top1 == pytest.approx(sum(hits) / 40)
    own = [right(r, int(t)) for r, t in zip(source, truth, strict=True) if int(t) in kept]
    assert score.source_top1 == pytest.approx(sum(own) / len(own))


def test_without_a_subset_nothing_is_masked() -> None:
    logits = torch.randn(4, 3)
    assert torch.equal(masked(logits, ()), logits)
    assert masked(logits, (0, 2))[:, 1].tolist() == [-math.inf] * 4


def test_groups_weigh_equally_whatever_their_size() -> None:
    targets = torch.zeros(4, dtype=torch.int64)
    source = torch.tensor([[1.0, 0.0]] * 4)

    def score(group: str, correct: int) -> object:
        logits = torch.zeros(4, 2)
        logits[:, 1] = 1
        logits[:correct] = torch.tensor([1.0, 0.0])
        return score_shift(shift_of(targets, group=group), logits, source, targets)

    scores = [score("noise", 4), score("noise", 2), score("noise", 3), score("blur", 1)]
    values = shift_metrics(scores, 1.0, 4, None)  # type: ignore[arg-type]
    assert values["shift/noise"] == pytest.approx(0.75)
    assert values["shift/blur"] == pytest.approx(0.25)
    assert values["shifted_top1"] == pytest.approx(0.5)
    assert values["gap"] == pytest.approx(0.5)
    low, high = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    noise, blur = 0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high
    assert values["shifted_loss"] == pytest.approx((noise + blur) / 2)
    assert "effective_robustness" not in values


def test_guesses_among_a_target_s_classes_stay_below_its_bound() -> None:
    """200 of 1,000 classes are guessed right five times as often as all of them."""
    generator = torch.Generator().manual_seed(0)
    held = tuple(range(0, 1000, 5))
    targets = torch.tensor(held)[torch.randint(200, (3000,), generator=generator)]
    part, every = shift_of(targets, classes=held), shift_of(targets, group="all")
    bound = shift_chance_bound([part], 1000)
    trials = [
        float((torch.rand(3000, 1000, generator=generator)[:, held].argmax(1) * 5 == targets)
              .float().mean())
        for _ in range(60)
    ]  # fmt: skip
    assert max(trials) <= bound < 3 / 200
    assert sum(trials) / 60 == pytest.approx(1 / 200, rel=0.1)
    among_all = shift_chance_bound([every], 1000)
    assert sum(trial > among_all for trial in trials) > 30
    assert shift_chance_bound([part, every], 1000) == pytest.approx((bound + among_all) / 2)


@pytest.mark.parametrize("corruptions", [1, 15])
def test_corruptions_of_the_same_images_are_not_more_images(corruptions: int) -> None:
    """Blind features guess the same class of an image whatever the corruption."""
    rng = np.random.default_rng(0)
    shifts = [shift_of(torch.zeros(200, dtype=torch.int64), name=str(n), group=str(n % 3))
              for n in range(corruptions)]  # fmt: skip
    bound = shift_chance_bound(shifts, 10)
    false = (rng.binomial(200, 0.1, 100_000) / 200 > bound).mean()
    assert CHANCE_ALPHA / 4 < false <= CHANCE_ALPHA * 1.4


@given(st.floats(0.0, 1.0), st.floats(0.2, 2), st.floats(-2, 2))
def test_effective_robustness_is_the_height_above_the_line(
    top1: float, slope: float, intercept: float
) -> None:
    line = RobustnessBaseline(slope=slope, intercept=intercept, models="some")
    usual = expected_shifted(top1, 500, line)
    assert 0 < usual < 1
    assert math.log(usual / (1 - usual)) == pytest.approx(
        slope * logit(top1, 500) + intercept, abs=1e-6
    )
    on_line = RobustnessBaseline(slope=1, intercept=0, models="some")
    if 0.01 < top1 < 0.99:
        assert expected_shifted(top1, 500, on_line) == pytest.approx(top1)
