"""A few labelled images: what is the backbone worth when data is scarce?"""

import pytest

from bob.case import Case
from bob.pytest_plugin import Battle


@pytest.mark.frozen
@pytest.mark.features
@pytest.mark.low_shot
def test_low_shot(case: Case, battle: Battle) -> None:
    """Probes on 1, 5 and 10 images per class and on 1 % and 10 % of train; the mean is judged."""
    battle(case)


@pytest.mark.low_shot_finetune
def test_low_shot_finetune(case: Case, battle: Battle) -> None:
    """Fine-tuning on 1 % and 10 % of train; the mean over shares and draws is judged."""
    battle(case)
