"""Intervals of areas under the ROC curve: they hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from bob.metrics.area import area, interval
from bob.metrics.multilabel import label_aurocs

TRIALS = 300
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / TRIALS)
"""Three standard errors below the level, so that chance fails one of a thousand."""

Values = NDArray[np.float64]


def drawn(rng: np.random.Generator, truth: Values, value: float, spread: float) -> Values:
    """Scores whose area is ``value``; those with the label spread so much more than the others."""
    apart = norm.ppf(value) * math.hypot(1, spread)
    return np.where(truth == 1, apart + spread * rng.standard_normal(len(truth)),
                    rng.standard_normal(len(truth)))  # fmt: skip


@pytest.mark.parametrize("spread", [0.7, 2.0])
@pytest.mark.parametrize("value", [0.6, 0.85, 0.99])
@pytest.mark.parametrize(("present", "absent"), [(8, 194), (66, 136)])
def test_intervals_of_areas_cover(present: int, absent: int, value: float, spread: float) -> None:
    rng = np.random.default_rng(present)
    truth = np.repeat([1.0, 0.0], [present, absent])
    ends = [interval([area(drawn(rng, truth, value, spread), truth)]) for _ in range(TRIALS)]
    assert np.mean([low <= value <= high for low, high in ends]) >= LEAST


@pytest.mark.parametrize("spread", [0.4, 3.0])
@pytest.mark.parametrize("value", [0.5, 0.9])
@pytest.mark.parametrize(("present", "absent"), [(1, 29), (2, 58), (5, 195), (60, 3)])
def test_intervals_cover_where_the_label_is_rare_or_rarely_absent(
    present: int, absent: int, value: float, spread: float
) -> None:
    rng = np.random.default_rng(present)
    truth = np.repeat([1.0, 0.0], [present, absent])
    ends = [interval([area(drawn(rng, truth, value, spread), truth)]) for _ in range(TRIALS)]
    assert np.mean([low <= value <= high for low, high in ends]) >= LEAST


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_intervals_of_mean_areas_cover_and_are_narrower(alike: float) -> None:
    """Five labels, some of them not known, on images that are alike in all or not."""
    rng = np.random.default_rng(1)
    values, counts = (0.7, 0.8, 0.85, 0.9, 0.95), (60, 40, 30, 80, 20)
    held, widths = [], []
    for _ in range(TRIALS):
        shared = rng.standard_normal(200)
        areas = []
        for value, count in zip(values, counts, strict=True):
            truth = np.zeros(200)
            truth[:count] = 1
            own = rng.standard_normal(200)
            scores = math.sqrt(alike) * shared + math.sqrt(1 - alike) * own
            scores += norm.ppf(value) * math.sqrt(2) * truth
            truth[rng.random(200) < 0.1] = math.nan
            areas.append(area(scores, truth))
        low, high = interval(areas)
        held.append(low <= np.mean(values) <= high)
        widths.append((high - low, *(np.subtract(*interval([part])[::-1]) for part in areas)))
    assert np.mean(held) >= LEAST
    assert np.mean(widths, axis=0)[0] < np.mean(widths, axis=0)[1:].mean()


def test_areas_are_those_of_the_score_with_ties_and_unknowns() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 6, (80, 2), generator=generator).float()
    targets = torch.randint(0, 2, (80, 2), generator=generator).float()
    targets[::7, 1] = math.nan
    for index, expected in label_aurocs(logits, targets, (0, 1)).items():
        found = area(logits[:, index].double().numpy(), targets[:, index].double().numpy())
        assert found.value == pytest.approx(expected)


@pytest.mark.parametrize("present", [1, 2, 50])
def test_a_faultless_order_of_few_images_is_not_sure(present: int) -> None:
    truth = np.repeat([1.0, 0.0], [present, 50])
    low, high = interval([area(truth.copy(), truth)])
    assert high == pytest.approx(1.0, abs=0.01)
    assert low < {1: 0.6, 2: 0.75, 50: 0.98}[present]
