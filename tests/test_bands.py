from __future__ import annotations

import math
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bob.protocols import Judged
from bob.references.bands import (
    POOL_SEEDS,
    Spread,
    case_spread,
    floor,
    from_scale,
    pool,
    predict,
    to_scale,
)

REAL = Judged("m", "real")
PROPORTION = Judged("top1", "proportion")
BOUNDED = Judged("mean_auroc", "bounded")
POSITIVE = Judged("loss", "positive", higher_is_better=False)


@given(st.floats(0, 1))
def test_angular_scale_inverts(value: float) -> None:
    assert from_scale(PROPORTION, to_scale(PROPORTION, value)) == pytest.approx(value, abs=1e-9)


def test_interval_is_the_textbook_one() -> None:
    values = [0.1, 0.4, 0.3, 0.35, 0.2]
    spread = Spread(stdev(values), len(values) - 1)
    band = predict(REAL, values, spread, seeds=1, alpha=0.05, margin=0)
    half = stats.t.ppf(0.95, 4) * stdev(values) * math.sqrt(1 + 1 / 5)
    assert band.low == pytest.approx(fmean(values) - half)
    assert band.high == pytest.approx(fmean(values) + half)


def test_pool_is_the_root_of_the_mean_within_variance() -> None:
    groups = [[1.0, 2.0, 3.0], [10.0, 14.0], [5.0]]
    within = (2 * np.var(groups[0], ddof=1) + np.var(groups[1], ddof=1)) / 3
    assert pool(REAL, groups) == Spread(pytest.approx(math.sqrt(within)), 3)  # type: ignore[arg-type]
    assert pool(REAL, [[1.0]]).freedom == 0


def test_own_spread_is_drawn_towards_the_pool() -> None:
    calm = [0.5, 0.5, 0.5, 0.5]
    spread = case_spread(REAL, calm, Spread(0.1, 100), test_size=0)
    assert spread.freedom == 3 + POOL_SEEDS
    assert spread.deviation == pytest.approx(math.sqrt(POOL_SEEDS * 0.01 / (3 + POOL_SEEDS)))


def test_floor_stands_in_for_what_the_pool_lacks() -> None:
    single = [0.9]
    spread = case_spread(PROPORTION, single, pool(PROPORTION, [single]), test_size=597)
    assert spread.deviation == pytest.approx(floor(PROPORTION, 597))
    assert spread.deviation == pytest.approx(math.sqrt(1 / (8 * 597)))
    assert spread.freedom == POOL_SEEDS
    band = predict(PROPORTION, single, spread, seeds=1, alpha=0.02, margin=0)
    assert band.low < 0.89 < 0.91 < band.high
    same = [0.9] * 5
    calm = case_spread(PROPORTION, same, pool(PROPORTION, [same]), test_size=597)
    assert calm.deviation == 0.0, "seeds that were measured say more than the test set's size"


def test_a_small_reference_in_the_pool_costs_no_freedom() -> None:
    """A single seed beside a pool of two seeds is known no worse than without that pool."""
    alone = case_spread(PROPORTION, [0.86], Spread(0.0, 0), test_size=597)
    groups = [[0.86], [0.71, 0.72]]
    beside = case_spread(PROPORTION, [0.86], pool(PROPORTION, groups), test_size=597)
    assert beside.freedom == alone.freedom == POOL_SEEDS
    wide, narrow = (
        predict(PROPORTION, [0.86], spread, seeds=1, alpha=0.01, margin=0.0)
        for spread in (beside, alone)
    )
    assert wide.low > narrow.low - 0.05


def test_new_seeds_tell_the_spread_too() -> None:
    """The restless case among calm ones: its own seeds, old and new, say so without the pool."""
    calm = Spread(0.01, 80)
    reference, fresh = [0.5, 0.52, 0.48], [0.3, 0.7, 0.5, 0.4, 0.6, 0.45, 0.55, 0.35, 0.65]
    own = case_spread(REAL, reference, calm, 0, fresh=fresh)
    squares = 2 * np.var(reference, ddof=1) + 8 * np.var(fresh, ddof=1)
    assert own == Spread(pytest.approx(math.sqrt(squares / 10)), 10)  # type: ignore[arg-type]
    few = case_spread(REAL, reference, calm, 0, fresh=fresh[:1])
    assert few.freedom == 2 + POOL_SEEDS


@given(
    st.lists(st.floats(0.02, 0.98), min_size=2, max_size=9),
    st.integers(1, 5),
    st.floats(0.001, 0.2),
)
def test_band_holds_its_reference_and_stays_a_fraction(
    values: list[float], seeds: int, alpha: float
) -> None:
    spread = case_spread(PROPORTION, values, pool(PROPORTION, [values]), test_size=500)
    band = predict(PROPORTION, values, spread, seeds=seeds, alpha=alpha, margin=0.0)
    centre = from_scale(PROPORTION, fmean(to_scale(PROPORTION, value) for value in values))
    assert 0 <= band.low <= centre <= band.high <= 1
    wider = predict(PROPORTION, values, spread, seeds=seeds, alpha=alpha / 4, margin=0.0)
    assert wider.low <= band.low
    assert wider.high >= band.high


def test_margin_is_the_least_half_width() -> None:
    values = [0.5, 0.5001]
    spread = Spread(1e-6, 50)
    band = predict(REAL, values, spread, seeds=1, alpha=0.02, margin=0.03)
    assert band.low == pytest.approx(fmean(values) - 0.03)
    band = predict(POSITIVE, [2.0, 2.0], spread, seeds=1, alpha=0.02, margin=0.1)
    assert (band.low, band.high) == (pytest.approx(1.8), pytest.approx(2.2))
