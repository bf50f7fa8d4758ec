"""A backbone's module that changes the process when it is imported."""

from __future__ import annotations

import os
import sys

import torch
from torch import nn

from tests.rude_factories import Net

torch.use_deterministic_algorithms(True)
os.environ["RUDE_IMPORT"] = "yes"
sys.path.insert(0, "/rude/import")
_DRAWN = torch.rand(3)  # the first case alone would have this drawn


def make() -> nn.Module:
    """Needs in every case what the import set."""
    assert os.environ["RUDE_IMPORT"] == "yes"
    assert "/rude/import" in sys.path
    assert torch.are_deterministic_algorithms_enabled()
    return Net()


def load_rudely() -> object:
    """The digits, from a loader that leaves another default dtype."""
    from bob.datasets.digits import load

    data = load()
    torch.set_default_dtype(torch.float64)
    os.chdir("/")
    return data
