"""A backbone with a linear head."""

from __future__ import annotations

import torch
from torch import nn

from bob.backbones import Backbone


class Classifier(nn.Module):
    """Backbone and linear head: images ``(b, 3, s, s)`` to logits ``(b, classes)``.

    The head starts as the paper's: Xavier normal weights, zero bias.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.head = nn.Linear(backbone.num_features, classes)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images to logits."""
        logits: torch.Tensor = self.head(self.backbone(images))
        return logits
