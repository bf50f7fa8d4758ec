"""What a protocol costs: how many images go through the backbone, forward only or in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bob.kinds import DataKind
from bob.protocols.grid import RateGrid


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a case brings along besides its recipe.

    Attributes:
        train: Images to learn from, or the database of a retrieval; 0 for a protocol that reads
            the classifier of a release.
        test: Images of the test split, or queries of a retrieval.
        shifted: Images of all shifted targets together.
        side: The backbone's own height and width in pixels.
        kind: Kind of the dataset.
    """

    train: int
    test: int
    shifted: int = 0
    side: float
    kind: DataKind


@dataclass(frozen=True, kw_only=True)
class Work:
    """Images of one run of a case.

    Attributes:
        train: Through forward and backward pass and update.
        forward: Forward only, for this case alone.
        views: Of these, randomly augmented looks.
        passes: Forward only, by split; any frozen protocol of the same backbone and dataset reads
            the same features.
        side: Side in pixels of a square of the image's area.
        batch: Images whose activations are held at once in training, 0 without training.
        heads: Cost of a detector's heads, as a multiple of a ResNet-50's forward pass.
        heads_macs: Multiply-adds of its pyramid, proposals and heads on a training image, forward.
        test_heads_macs: The same on a test image.
        fits: Linear heads that are solved on frozen features.
        test_side: Side for ``forward``, where it differs.
        frozen: Whether the backbone is run but not trained in ``train``.
    """

    side: float
    train: float = 0.0
    forward: float = 0.0
    views: float = 0.0
    passes: Mapping[str, int] = field(default_factory=dict)
    batch: int = 0
    heads: float = 0.0
    heads_macs: float = 0.0
    test_heads_macs: float = 0.0
    fits: int = 0
    test_side: float = 0.0
    frozen: bool = False


def frozen_passes(
    image_size: int | None, passes: Mapping[str, int], sizes: Sizes, *, fits: int = 0
) -> Work:
    """The work of a protocol that learns on stored features: one pass over each split.

    Args:
        image_size: The recipe's; none for the backbone's own.
        passes: Images by split.
        sizes: Those of the case.
        fits: Linear heads that are solved on the features.
    """
    return Work(side=float(image_size or sizes.side), passes=passes, fits=fits)


def searched(grid: RateGrid | None, images: float) -> tuple[float, float]:
    """Images that trying a grid trains on and holds out.

    Args:
        grid: The recipe's; none where it has none.
        images: What one training on the whole split sees, over all its epochs.
    """
    if grid is None:
        return 0.0, 0.0
    tried = len(grid.settings()) * images
    return tried * (1 - grid.holdout), tried * grid.holdout
