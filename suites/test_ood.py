"""Out of distribution: does what was learnt hold elsewhere?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.frozen
@pytest.mark.features
@pytest.mark.ood
def test_ood(case: Case, battle: Battle) -> None:
    """A probe of the source read on shifted targets; the mean over their groups is judged."""
    battle(case)
