"""Released classifiers: does a checkpoint still do what its release says?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.frozen
@pytest.mark.eval_released
def test_eval_released(case: Case, battle: Battle) -> None:
    """The checkpoint's own classifier on ImageNet and its variants; top-1 is judged."""
    battle(case)
