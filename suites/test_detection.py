"""Detection and instance segmentation: does the backbone see where things are?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.detection
def test_detection(case: Case, battle: Battle) -> None:
    """Backbone and detector are trained together; box AP is judged, guarded by mask AP."""
    battle(case)


@pytest.mark.frozen
@pytest.mark.detection_frozen
def test_detection_frozen(case: Case, battle: Battle) -> None:
    """The detector is trained on a frozen backbone; box AP is judged, guarded by mask AP."""
    battle(case)


@pytest.mark.ood_detection
def test_ood_detection(case: Case, battle: Battle) -> None:
    """A detector of the source read on shifted targets; the mean box AP is judged."""
    battle(case)
