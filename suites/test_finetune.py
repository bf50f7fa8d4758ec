"""Fine-tuning: is this backbone a good start for training on a new task?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.finetune
def test_finetune(case: Case, battle: Battle) -> None:
    """Every weight is trained; top-1 of the last epoch on the test split is judged."""
    battle(case)
