"""The suite that comes with acme's protocol."""

import pytest


@pytest.mark.nearest_mean
def test_nearest_mean(case, battle):
    battle(case)


@pytest.mark.knn
def test_knn(case, battle):
    battle(case)
