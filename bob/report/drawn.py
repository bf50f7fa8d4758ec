"""Scores that are no mean over images, under test images that are drawn anew.

The draws of a list of images are always the same. So they are the same for both sides of a
comparison, for every seed, and for all settings on those images.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bob.case import DetectionOutcomes, ImageList
from bob.ledger.score import RunId, Score
from bob.ledger.units import ROUNDED
from bob.report.precision import PrecisionTable

Values = NDArray[np.float64]

MOST_DRAWS, FEWEST_DRAWS = 500, 200
_MOST = 2_000_000
"""Images that are drawn for a list in all; fewer draws where it is longer."""

_KINDS = {"box_ap": "box", "shifted_box_ap": "box", "mask_ap": "mask"}
"""By metric, the matches that it is computed from."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What drawn images make of a score, a mean over seeds.

    Attributes:
        lists: Which images were drawn; two scores with the same were drawn alike.
        moved: By name of a list how far each draw of it moves the score from the mean over draws,
            ``(draws,)``.
        image: By the same names, what a whole image is to the score: the deviation that half of
            one brings which one side alone got right, and half of another for the other side.
        unsteady: Part of the variance of one seed's score that is what a seed does to single
            images; 0 of one seed.
    """

    lists: tuple[ImageList, ...]
    moved: Mapping[str, Values]
    image: Mapping[str, float]
    unsteady: float = 0.0


@dataclass
class Drawing:
    """Draws for the runs of which matches are kept; made when they are asked for, and once.

    Attributes:
        outcomes: By ``Score.run``.
    """

    outcomes: Mapping[RunId, DetectionOutcomes]
    _found: dict[tuple[RunId, str, float], _Run | None] = field(default_factory=dict)

    @property
    def detections(self) -> int:
        """How many there are in all runs; half a million take some three seconds."""
        return sum(len(outcomes.images) for outcomes in self.outcomes.values())

    def of(self, rows: Sequence[Score]) -> Drawn | None:
        """The draws of a backbone's score in a setting.

        Args:
            rows: One a seed, at least one.

        Returns:
            None where a seed's matches are not known, are of other images, or do not give its
            score.
        """
        runs = [self._run(row) for row in rows]
        seeds = [run for run in runs if run is not None]
        first = seeds[0] if seeds else None
        if first is None or len(seeds) < len(runs):
            return None
        if any(run.lists != first.lists for run in seeds):
            return None
        apart = {name: np.stack([run.moved[name] for run in seeds]) for name in first.moved}
        return Drawn(
            lists=first.lists,
            moved={name: values.mean(axis=0) for name, values in apart.items()},
            image=first.image,
            unsteady=sum(map(_unsteady, apart.values())),
        )

    def _run(self, row: Score) -> _Run | None:
        key = row.run, row.metric, row.value
        if key not in self._found:
            outcomes, kind = self.outcomes.get(row.run), _KINDS.get(row.metric)
            self._found[key] = _run(outcomes, kind, row.value) if outcomes and kind else None
        return self._found[key]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """As of ``Drawn``, of one seed."""

    lists: tuple[ImageList, ...]
    moved: Mapping[str, Values]
    image: Mapping[str, float]


def _run(outcomes: DetectionOutcomes, kind: str, score: float) -> _Run | None:
    """The draws of one run; none where its matches do not give its score."""
    tables = []
    for part, images in enumerate(outcomes.lists):
        table = PrecisionTable.of(outcomes, kind, part=part)
        if table is None:
            return None
        tables.append((table, images))
    whole = sum(
        images.share * table.score(np.ones(images.count, np.int64)) for table, images in tables
    )
    if not abs(whole - score) <= ROUNDED:
        return None
    moved: dict[str, Values] = {}
    image: dict[str, float] = {}
    for table, images in tables:
        values = np.array([table.score(weights) for weights in weights_of(images)])
        # a draw without any object says nothing
        values = np.where(np.isnan(values), np.nanmean(values), values)
        few = np.sqrt(images.count / max(1, images.count - 1))
        apart = images.share * few * (values - values.mean())
        name = f"{images.digest} {images.count}"
        moved[name] = moved.get(name, 0.0) + apart
        size = images.share * math.sqrt(np.sum(table.shares(images.count) ** 3))
        image[name] = image.get(name, 0.0) + size
    return _Run(lists=outcomes.lists, moved=moved, image=image)


def _unsteady(values: Values) -> float:
    """Variance over draws of what sets one seed apart from the mean of all, ``(seeds, draws)``."""
    seeds = len(values)
    if seeds < 2:
        return 0.0
    apart = values - values.mean(axis=0)
    return float(np.square(apart).sum() / values.shape[1] / (seeds - 1))


def draws_of(images: ImageList) -> int:
    """How often a list is drawn."""
    return int(max(FEWEST_DRAWS, min(MOST_DRAWS, _MOST // images.count)))


def weights_of(images: ImageList) -> Iterator[NDArray[np.int64]]:
    """How often each image of a list is drawn, ``(images.count,)``, draw by draw.

    Args:
        images: The list; its digest seeds the draws.
    """
    seed = int.from_bytes(hashlib.sha256(images.digest.encode()).digest()[:8])
    rng = np.random.default_rng(seed)
    for _ in range(draws_of(images)):
        drawn = rng.integers(0, images.count, images.count)
        yield np.bincount(drawn, minlength=images.count)
