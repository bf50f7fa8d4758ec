"""Fixed subsets of a train split: held-out parts and low-shot draws.

They follow from the labels and a name alone, through a random stream that NumPy promises never to
change (Philox), so that every machine and version draws the same. Those of shipped datasets are
also stored beside this file, with the digest of the labels they were drawn from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bob.errors import BobError

STORED = Path(__file__).parent / "draws"

Indices = NDArray[np.int64]
Draws = Mapping[str, tuple[Indices, ...]]


def labels_digest(targets: torch.Tensor) -> str:
    """Hex SHA-256 of the labels in their order."""
    return hashlib.sha256(targets.numpy().astype("<i8").tobytes()).hexdigest()


def shuffled(count: int, *name: object) -> Indices:
    """A permutation of ``range(count)`` that depends on the name only."""
    text = "/".join(map(str, name)).encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "big")
    order: Indices = np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")
    return order


def _ranks_within_class(targets: Indices, order: Indices) -> Indices:
    """For each sample, how many of its class come before it in ``order``."""
    by_class = order[np.argsort(targets[order], kind="stable")]
    labels = targets[by_class]
    first = np.searchsorted(labels, labels, side="left")
    ranks = np.empty_like(targets)
    ranks[by_class] = np.arange(len(targets)) - first
    return ranks


def held_out(targets: torch.Tensor, share: float) -> tuple[Indices, Indices]:
    """Split a train split into a part to fit on and a part to choose on, balanced over classes.

    Every class keeps at least one image to fit on.

    Args:
        targets: ``(n,)``.
        share: Of the images, to choose on.

    Returns:
        Ascending positions of both parts; the second is empty when every class has one image.
    """
    labels = targets.numpy()
    order = shuffled(len(labels), "held out", labels_digest(targets))
    ranks = _ranks_within_class(labels, order)
    spare = order[ranks[order] > 0]
    spare = spare[np.argsort(labels[spare], kind="stable")]
    count = min(len(spare), max(1, round(share * len(labels))))
    picks = spare[np.linspace(0, len(spare), count, endpoint=False).astype(np.int64)]
    chosen = np.zeros(len(labels), bool)
    chosen[picks] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def stratified(targets: torch.Tensor, share: float) -> tuple[Indices, Indices]:
    """Split labelled images into train and test, by a fixed draw within each class.

    A class of two images or more has one in both parts at least; a class of one is train's.

    Args:
        targets: ``(n,)``; the draw depends on them and their order alone.
        share: Of each class, to test on.

    Returns:
        Ascending positions of both parts.
    """
    labels = targets.numpy()
    ranks = _ranks_within_class(labels, shuffled(len(labels), "split", labels_digest(targets)))
    counts = np.bincount(labels)
    sizes = np.minimum(np.maximum(1, np.round(counts * share)), counts - 1)
    tested = ranks < sizes[labels]
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def shots_name(shots: int) -> str:
    """Name of so many images per class, such as ``5shot``."""
    return f"{shots}shot"


def fraction_name(fraction: float) -> str:
    """Name of a share of the train split, such as ``10pct``."""
    return f"{fraction * 100:g}pct"


def low_shot_draws(
    targets: torch.Tensor,
    class_names: Sequence[str],
    *,
    shots: Sequence[int],
    fractions: Sequence[float],
    draws: int,
) -> Draws:
    """Low-shot draws of every setting, those stored with the labels' digest before all others.

    A class of fewer images than asked for gives all it has. A share is spread over classes in
    proportion, every class giving at least one image.

    Args:
        targets: Labels of the train split, ``(n,)``.
        class_names: One name per class.
        shots: Images per class, one setting each.
        fractions: Shares of the train split, one setting each.
        draws: Draws of each setting.

    Returns:
        Ascending positions by setting (``5shot``, ``10pct``), one array a draw.

    Raises:
        BobError: A class has no train image at all.
    """
    labels = targets.numpy()
    counts = np.bincount(labels, minlength=len(class_names))
    if (counts == 0).any():
        empty = [class_names[index] for index in np.flatnonzero(counts == 0)[:3]]
        raise BobError(
            f"A low-shot draw needs every class, and the train split has no image of "
            f"{', '.join(map(repr, empty))}. Add images, or leave the class out of the dataset.",
            kind="dataset",
        )
    wanted = {shots_name(n): np.minimum(counts, n) for n in shots}
    wanted |= {fraction_name(f): _apportioned(counts, f) for f in fractions}
    digest = labels_digest(targets)
    stored = _stored(digest)
    result = {}
    for name, sizes in wanted.items():
        known = stored.get(name, ())
        result[name] = tuple(
            known[draw] if draw < len(known) else _draw(labels, sizes, digest, name, draw)
            for draw in range(draws)
        )
    return result


def _draw(labels: Indices, sizes: Indices, digest: str, name: str, draw: int) -> Indices:
    order = shuffled(len(labels), "low shot", digest, name, draw)
    ranks = _ranks_within_class(labels, order)
    return np.flatnonzero(ranks < sizes[labels])


def _apportioned(counts: Indices, fraction: float) -> Indices:
    """Images per class: proportional, at least one, largest remainders first."""
    exact = counts * fraction
    sizes: Indices = np.maximum(1, np.floor(exact).astype(np.int64))
    missing = max(0, round(fraction * counts.sum()) - int(sizes.sum()))
    by_remainder = np.argsort(-(exact - sizes), kind="stable")
    for index in by_remainder[:missing]:
        sizes[index] += sizes[index] < counts[index]
    return sizes


@lru_cache(maxsize=8)
def _stored(digest: str) -> dict[str, tuple[Indices, ...]]:
    for path in sorted(STORED.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["labels"] == digest:
            return {
                name: tuple(np.array(draw, np.int64) for draw in draws)
                for name, draws in data["draws"].items()
            }
    return {}
