"""What a matrix of frozen features shows of a backbone that is fed what it was not made for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

ROWS = 10_000
"""Rows that are looked at, evenly spread; of a larger matrix the shares are estimates."""

_RANK_ROWS = 1024
_MUCH_DEAD = 0.5
_MUCH_ZERO = 0.01
_MUCH_EQUAL = 0.05
_LITTLE_RANK = 1.5


@dataclass(frozen=True, kw_only=True)
class FeatureHealth:
    """Shares are of the rows looked at.

    Attributes:
        width: Features a row.
        dead: Share of features that have one value in all rows.
        zeros: Share of all values that are 0.
        zero_rows: Share of rows that are 0 throughout.
        equal_rows: Share of rows that are equal to an earlier one.
        effective_rank: Exponential of the entropy of the covariance's eigenvalues (the effective
            rank of O. Roy and M. Vetterli, EUSIPCO 2007, of the covariance); from 1, where all
            rows lie on a line, to ``width``. 0 where all rows are equal.
    """

    width: int
    dead: float
    zeros: float
    zero_rows: float
    equal_rows: float
    effective_rank: float

    @property
    def metrics(self) -> dict[str, float]:
        """As a result records them."""
        return {
            "features_dead": self.dead,
            "features_zero_rows": self.zero_rows,
            "features_equal_rows": self.equal_rows,
            "features_effective_rank": self.effective_rank,
        }

    @property
    def poor(self) -> bool:
        """Whether a score on such features says little of the backbone."""
        return (
            self.dead >= _MUCH_DEAD
            or self.zero_rows >= _MUCH_ZERO
            or self.equal_rows >= _MUCH_EQUAL
            or self.effective_rank < _LITTLE_RANK
        )

    def __str__(self) -> str:
        return (
            f"{self.dead:.1%} of {self.width} never change, {self.zeros:.2%} of all values are 0, "
            f"{self.zero_rows:.1%} of the rows are 0 throughout and {self.equal_rows:.1%} "
            f"equal an earlier row; effective rank {self.effective_rank:.1f}"
        )


def spread(rows: int, most: int = ROWS) -> torch.Tensor:
    """At most ``most`` positions of ``rows``, evenly spread, int64 ``(k,)``."""
    return torch.linspace(0, rows - 1, min(rows, most)).round().long()


def feature_health(features: torch.Tensor) -> FeatureHealth:
    """Look at features ``(n, width)``, finite, n at least 1."""
    values = features.float().cpu().contiguous()
    rows = values.numpy().view(np.dtype((np.void, values.shape[1] * 4))).reshape(-1)
    return FeatureHealth(
        width=values.shape[1],
        dead=float((values == values[0]).all(dim=0).float().mean()),
        zeros=float((values == 0).float().mean()),
        zero_rows=float((values == 0).all(dim=1).float().mean()),
        equal_rows=1 - len(np.unique(rows)) / len(rows),
        effective_rank=effective_rank(values[spread(len(values), _RANK_ROWS)]),
    )


def effective_rank(values: torch.Tensor) -> float:
    """Exponential of the entropy of the covariance's eigenvalues; 0 where there is no spread.

    Args:
        values: ``(n, width)``, finite.
    """
    centred = values.double() - values.double().mean(dim=0)
    largest = float(centred.abs().max())
    if not largest:
        return 0.0
    centred = centred / largest
    narrow = centred if centred.shape[0] >= centred.shape[1] else centred.T
    eigenvalues = torch.linalg.eigvalsh(narrow.T @ narrow).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    shares = shares[shares > 1e-12]
    return float(torch.exp(-(shares * shares.log()).sum()))
