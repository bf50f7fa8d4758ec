"""Features that are dead, equal or all on a line are told beside the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bob.case import Case, Context
from bob.catalog import Catalog
from bob.metrics.feature_health import effective_rank, feature_health
from bob.plan import Plan, Selection
from bob.run import run_case


def noise(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_sound_features_are_not_poor() -> None:
    health = feature_health(noise(500, 32))
    assert not health.poor
    assert (health.dead, health.zeros, health.zero_rows, health.equal_rows) == (0, 0, 0, 0)
    assert 28 < health.effective_rank <= 32


def test_shares_are_counted() -> None:
    features = noise(100, 20)
    features[:, :5] = 3.0  # dead, not zero
    features[10:20] = 0.0
    features[30] = features[31]
    health = feature_health(features)
    assert health.dead == 0  # the zero rows differ in every feature
    assert health.zero_rows == pytest.approx(0.1)
    assert health.equal_rows == pytest.approx(10 / 100)  # nine zero rows and one copy
    assert health.zeros == pytest.approx(0.1)
    assert health.poor
    assert feature_health(noise(100, 20) * (torch.arange(20) < 4)).dead == pytest.approx(0.8)


@pytest.mark.parametrize("rank", [1, 3, 7])
@pytest.mark.parametrize("shape", [(400, 30), (20, 300)])
def test_effective_rank_of_orthogonal_directions(rank: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    rows, width = shape
    left, _ = np.linalg.qr(
        np.column_stack([np.ones(rows), generator.standard_normal((rows, rank))])
    )
    right, _ = np.linalg.qr(generator.standard_normal((width, rank)))
    values = torch.from_numpy(left[:, 1:] @ right.T)
    assert effective_rank(values) == pytest.approx(rank, rel=1e-6)
    assert effective_rank(values * 1e-30 + 5e-28) == pytest.approx(rank, rel=1e-3)
    assert effective_rank(values * 1e30) == pytest.approx(rank, rel=1e-6)


def test_features_without_spread_have_no_rank() -> None:
    health = feature_health(torch.full((9, 4), 2.5))
    assert health.effective_rank == 0
    assert health.dead == 1
    assert health.poor


def knn_of(catalog: Catalog, spec: str) -> Case:
    return Plan(catalog, Selection(scale="smoke", backbones=(spec,))).cases("knn")[0]


def test_a_score_on_dead_features_says_so(catalog: Catalog) -> None:
    """A random ResNet of 32 pixels gives most images the same features, to the last bit."""
    result = run_case(knn_of(catalog, "resnet_micro_random"), Context(accelerator="cpu", workers=0))
    assert result.failure is None
    assert result.metrics["features_equal_rows"] > 0.5
    (remark,) = (text for text in result.remarks if "the score says little" in text)
    assert "of the train features at 32 pixels" in remark


def test_every_frozen_result_records_its_features(catalog: Catalog) -> None:
    result = run_case(
        knn_of(catalog, "convnext_micro_glyphs"), Context(accelerator="cpu", workers=0)
    )
    assert result.metrics["features_dead"] == 0
    assert result.metrics["features_effective_rank"] > 10
    assert not any("the score says little" in text for text in result.remarks)
