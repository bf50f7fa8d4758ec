"""The paper's linear layer under LARS. Source: ``linear_probe.py`` of hsouri/bob-classification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.optim import Lars
from torch import nn
from torch.nn import functional

from bob.checkpoints.encoding import State
from bob.protocols.linear_probe_paper import PaperProbeRecipe


@dataclass
class Trainer:
    """A linear layer, behind a batch norm where the recipe says so, under LARS."""

    recipe: PaperProbeRecipe
    norm: nn.Module
    linear: nn.Linear
    optimiser: torch.optim.Optimizer

    @classmethod
    def start(
        cls, recipe: PaperProbeRecipe, width: int, classes: int, device: torch.device
    ) -> Trainer:
        """Initialise as the paper does: weights from a truncated normal of 0.01, zero bias."""
        norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if recipe.batch_norm else nn.Identity()
        linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        norm.to(device)
        linear.to(device)
        # The trust ratio adapts the weights; a bias takes the plain rate and no decay.
        groups = [
            {"params": [linear.weight], "always_adapt": True},
            {"params": [linear.bias], "weight_decay": 0.0},
        ]
        optimiser = Lars(
            groups,
            lr=0.0,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            trust_coeff=recipe.trust_coefficient,
        )
        return cls(recipe, norm, linear, optimiser)

    def epoch(
        self, features: torch.Tensor, targets: torch.Tensor, epoch: int, order: torch.Generator
    ) -> float:
        """One pass over ``(n, width)`` in random order; returns the mean loss.

        The last incomplete batch is left out.
        """
        self.norm.train()
        batch = min(self.recipe.batch_size, len(targets))
        steps = len(targets) // batch
        picks = torch.randperm(len(targets), generator=order).to(features.device)
        total = torch.zeros((), device=features.device)
        for step, rows in enumerate(picks.split(batch)[:steps]):
            rate = self.rate(epoch + step / steps, batch)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss = functional.cross_entropy(self.linear(self.norm(features[rows])), targets[rows])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total += loss.detach()
        return float(total) / steps

    def state(self) -> State:
        """Layer, norm and optimiser as plain data."""
        return {
            "linear": self.linear.state_dict(),
            "norm": self.norm.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def take_up(self, state: State) -> None:
        """Put all of them into such a state."""
        self.linear.load_state_dict(state["linear"])
        self.norm.load_state_dict(state["norm"])
        self.optimiser.load_state_dict(state["optimiser"])

    def rate(self, epoch: float, batch: int) -> float:
        """Learning rate at a fractional epoch: linear warm-up, then half a cosine to 0."""
        peak = self.recipe.base_lr * batch / 256
        warm, epochs = self.recipe.warmup_epochs, self.recipe.epochs
        if epoch < warm:
            return peak * epoch / warm
        return peak * 0.5 * (1 + math.cos(math.pi * (epoch - warm) / max(epochs - warm, 1e-9)))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, classes)`` of the layer as it stands."""
        self.norm.eval()
        with torch.no_grad():
            logits: torch.Tensor = self.linear(self.norm(features))
        return logits
