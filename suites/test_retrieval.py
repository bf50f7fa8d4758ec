"""Image retrieval: does the backbone put the same thing close together?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.frozen
@pytest.mark.features
@pytest.mark.retrieval
def test_retrieval(case: Case, battle: Battle) -> None:
    """Cosine ranking of a database for every query; mAP is judged, guarded by MRR."""
    battle(case)
