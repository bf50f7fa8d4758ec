"""Frozen features for classification: how much does the backbone know already?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.frozen
@pytest.mark.features
@pytest.mark.linear_probe
def test_linear_probe(case: Case, battle: Battle) -> None:
    """Logistic regression; its strength is chosen on a held-out tenth of train."""
    battle(case)


@pytest.mark.frozen
@pytest.mark.features
@pytest.mark.linear_probe_paper
def test_linear_probe_paper(case: Case, battle: Battle) -> None:
    """The paper's own probe: LARS over augmented views; top-1 of the last epoch is judged."""
    battle(case)


@pytest.mark.frozen
@pytest.mark.features
@pytest.mark.knn
def test_knn(case: Case, battle: Battle) -> None:
    """The nearest train images vote."""
    battle(case)
