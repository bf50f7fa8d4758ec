"""What ``bob compare`` answers about box AP where the truth is known.

Two detectors of about 0.4 box AP are read on the same test images, each trained on some seeds. All
objects are as hard for one as for the other, but for luck: of the images and objects that the split
holds, and of seeds::

    python -m benchmarks.detection_power               # 200 pairs of each world and truth
    python -m benchmarks.detection_power --pairs 1000

Truths:
    equal: nothing differs, but for luck.
    3 sigma, 5 sigma: the second is worse by so many deviations of a difference.
    at the edge: the second is worse by just what matters (``delta``), three deviations.
    small: as equal; what matters is eight deviations, so that a few seeds can tell.

Shares are those of pairs that are called different, worse or equivalent. The level of calling equal
ones different, and those at the edge equivalent, is 5 %.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bob.case import DetectionOutcomes, ImageList
from bob.case.detections import THRESHOLDS
from bob.ledger import Score
from bob.ledger.score import RunId
from bob.report.cells import Cell, cell
from bob.report.comparison import ALPHA, Answer, Contrast, Pair, compare
from bob.report.drawn import Drawing
from bob.report.precision import PrecisionTable

_DEVIATIONS = 300
"""Pairs that the deviation of a difference, and what a gap does to AP, are taken from."""


@dataclass(frozen=True, kw_only=True)
class World:
    """How detectors come about.

    Attributes:
        images: Test images.
        classes: Rare ones are on few images.
        seeds: Of each detector; one is that of detectors in which nothing is random.
        deviation: Of the quality that a seed gives all objects, in units of what objects differ by.
    """

    images: int
    classes: int = 10
    seeds: int = 1
    deviation: float = 0.0

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.images:>6} {self.classes:>7} {self.seeds:>5} {self.deviation:>9g}"


WORLDS = (
    *(World(images=n) for n in (60, 160, 600)),
    World(images=600, classes=40),
    *(World(images=160, seeds=n, deviation=d) for n in (3, 5) for d in (0.0, 0.1)),
)


@dataclass(frozen=True)
class _Truth:
    """Objects of a split: image, class and how hard they are, each ``(n,)``."""

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    ease: NDArray[np.float64]


def _truth(world: World, rng: np.random.Generator) -> _Truth:
    images = np.repeat(np.arange(world.images), rng.poisson(3, world.images))
    share = 1 / np.arange(1, world.classes + 1)
    labels = rng.choice(world.classes, len(images), p=share / share.sum())
    ease = 0.6 * rng.standard_normal(world.images)[images] + 0.5 * rng.standard_normal(len(images))
    return _Truth(images, labels, ease)


def _found(
    world: World, truth: _Truth, ease: NDArray[np.float64], rng: np.random.Generator
) -> DetectionOutcomes:
    """What one seed found: the easier an object, the higher its overlap and score."""
    count = len(truth.images)
    reached = np.clip(np.round(5.5 + 3 * ease), 0, THRESHOLDS).astype(np.int64)
    false = rng.poisson(5, world.images).sum()
    images = np.concatenate([truth.images, rng.integers(0, world.images, false)])
    labels = np.concatenate([truth.labels, rng.integers(0, world.classes, false)])
    signal = np.concatenate([ease + 0.7 * rng.standard_normal(count),
                             rng.standard_normal(false) - 1.2])  # fmt: skip
    matched = np.concatenate([2**reached - 1, np.zeros(false, np.int64)])
    order = np.lexsort((-signal, labels, images))
    keys, counts = np.unique(truth.images * world.classes + truth.labels, return_counts=True)
    return DetectionOutcomes(
        lists=(ImageList(count=world.images, digest=f"{rng.bit_generator.random_raw()}"),),
        images=images[order].astype(np.int32),
        labels=labels[order].astype(np.int32),
        scores=signal[order].astype(np.float32),
        box_matched=matched[order].astype(np.uint16),
        box_ignored=np.zeros(len(order), np.uint16),
        truth_images=(keys // world.classes).astype(np.int32),
        truth_labels=(keys % world.classes).astype(np.int32),
        truth_counts=counts.astype(np.int32),
    )


def detectors(
    world: World, gap: float, rng: np.random.Generator
) -> dict[str, list[DetectionOutcomes]]:
    """What both found, a seed each; objects are harder for ``b`` by ``gap``."""
    truth = _truth(world, rng)
    found: dict[str, list[DetectionOutcomes]] = {}
    lists = None
    for key, behind in (("a", 0.0), ("b", gap)):
        own = truth.ease - behind + 0.5 * rng.standard_normal(len(truth.ease))
        for _ in range(world.seeds):
            luck = world.deviation * rng.standard_normal()
            ease = own + luck + 0.3 * (world.seeds > 1) * rng.standard_normal(len(own))
            outcomes = _found(world, truth, ease, rng)
            lists = lists or outcomes.lists
            object.__setattr__(outcomes, "lists", lists)
            found.setdefault(key, []).append(outcomes)
    return found


def precision(outcomes: DetectionOutcomes) -> float:
    """Box AP."""
    table = PrecisionTable.of(outcomes, "box")
    assert table is not None
    return table.score(np.ones(outcomes.lists[0].count, np.int64))


def cell_of(key: str, seeds: list[DetectionOutcomes]) -> Cell:
    """The cell of one detector."""
    rows, outcomes = scores_of(key, seeds)
    return cell(rows, None, Drawing(outcomes))


def scores_of(
    key: str, seeds: list[DetectionOutcomes]
) -> tuple[list[Score], dict[RunId, DetectionOutcomes]]:
    """A row for each seed of one detector, and what it is computed from."""
    outcomes: dict[RunId, DetectionOutcomes] = {}
    rows = []
    for seed, found in enumerate(seeds):
        row = Score(
            backbone=key, task="detection", dataset="simulated", scale="full", seed=seed,
            metric="box_ap", unit="bounded", value=precision(found), higher_is_better=True,
            is_score=True, seeded=len(seeds) > 1, protocol="simulated", run_key=f"{seed}",
        )  # fmt: skip
        outcomes[row.run] = found
        rows.append(row)
    return rows, outcomes


def compared(world: World, gap: float, delta: float, rng: np.random.Generator) -> Contrast:
    """One simulated pair."""
    both = {key: cell_of(key, seeds) for key, seeds in detectors(world, gap, rng).items()}
    pair = Pair(subject="", setting="", before=both["a"], after=both["b"], delta=delta)
    return compare([pair]).contrasts[0]


def deviation(world: World, rng: np.random.Generator) -> tuple[float, float]:
    """Deviation of a difference of equal detectors in AP, and the gap that costs one such."""

    def ahead(gap: float) -> list[float]:
        found = []
        for _ in range(_DEVIATIONS):
            both = detectors(world, gap, rng)
            first, second = (np.mean([precision(seed) for seed in both[key]]) for key in "ab")
            found.append(float(first - second))
        return found

    spread, gap = float(np.std(ahead(0.0))), 0.2
    return spread, gap * spread / float(np.mean(ahead(gap)))


def rates(world: World, pairs: int, rng: np.random.Generator) -> dict[str, float]:
    """Shares of the pairs, by truth and answer."""
    spread, gap = deviation(world, rng)

    def share(answers: tuple[Answer, ...], gaps: float, delta: float) -> float:
        found = (compared(world, gaps * gap, delta * spread, rng) for _ in range(pairs))
        return sum(contrast.answer in answers for contrast in found) / pairs

    return {
        "equal": share((Answer.BETTER, Answer.WORSE), 0, 0),
        "3 sigma": share((Answer.WORSE,), 3, 0),
        "5 sigma": share((Answer.WORSE,), 5, 0),
        "edge": share((Answer.EQUIVALENT,), 3, 3),
        "small": share((Answer.EQUIVALENT,), 0, 8),
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; status 1 where a mistake is made oftener than chance explains."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200, help="of each world and truth (200)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    print(f"{'':<31}equal: called        worse by: found    edge: called   equal: called")
    print("images classes seeds deviation      different   3 sigma   5 sigma      equivalent"
          "      equivalent")  # fmt: skip
    worst, start = 0.0, time.perf_counter()
    for world in WORLDS:
        found = rates(world, args.pairs, rng)
        cells = (f"{share:>10.1%}" for share in found.values())
        print(f"{world.name:<34}{'     '.join(cells)}", flush=True)
        worst = max(worst, found["equal"], found["edge"])
    error = math.sqrt(ALPHA * (1 - ALPHA) / args.pairs)
    print(f"\n{args.pairs} pairs a share; at {ALPHA:.0%} its standard error is {error:.1%}")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return int(worst > ALPHA + 3 * error)


if __name__ == "__main__":
    sys.exit(main())
