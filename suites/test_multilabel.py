"""Several labels an image: is this backbone a good start for reading radiographs?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.finetune_multilabel
def test_finetune_multilabel(case: Case, battle: Battle) -> None:
    """Every weight is trained; the mean AUROC of the last epoch is judged."""
    battle(case)
