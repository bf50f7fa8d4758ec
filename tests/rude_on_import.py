"""A backbone's module that changes the process when it is imported."""

from __future__ import annotations

import os
import sys

import torch
from torch import nn

from tests.rude_factories import Net

torch.set_default_dtype(torch.float64)
os.environ["RUDE_IMPORT"] = "yes"
sys.path.insert(0, "/rude/import")
_DRAWN = torch.rand(3)  # the first case alone would have this drawn


class Single(Net):
    """Takes images of any precision."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.float())


def make() -> nn.Module:
    """Needs in every case what the import set."""
    assert os.environ["RUDE_IMPORT"] == "yes"
    assert "/rude/import" in sys.path
    assert torch.get_default_dtype() == torch.float64
    return Single().float()


def load_rudely() -> object:
    """The digits, from a loader that leaves another default dtype."""
    from bob.datasets.digits import load

    data = load()
    torch.set_default_dtype(torch.float64)
    os.chdir("/")
    return data
