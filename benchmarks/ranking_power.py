"""What a ranking's p-values give: equal backbones called different, and differences found.

Two backbones of 70 % top-1 are read on the same test images, each trained on some seeds. They are
equal, but for the luck of images and seeds; or one is better by as much as the ideal test finds in
four sessions of five. A rule calls them different where its p is below 0.05::

    python -m benchmarks.ranking_power
    python -m benchmarks.ranking_power --trials 10000

Rules:
    old: signs of the mean over seeds thrown image by image, as if seeds had no luck. The normal
        distribution stands in for the throws.
    new: ``bob.report.significance``.
    ideal: a normal test that knows the deviation of the difference.

Worlds have so many test images, seeds of the one and the other, settings, and deviations between
seeds in points of top-1 (of the one / the other). Luck of seeds is normal, or Student's t of three
degrees of freedom of the same variance.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bob.report.cells import Cell, unsteady_variance
from bob.report.ranking import ALPHA
from bob.report.significance import difference

Values = NDArray[np.float64]
LEVEL = 0.7
"""Top-1 of both."""
_SHARED, _OWN, _SEED = 0.6, 0.2, 0.2
"""Parts of an image's difficulty: for all, for one backbone, and for one of its seeds."""


@dataclass(frozen=True, kw_only=True)
class World:
    """How sessions come about.

    Attributes:
        images: Test images.
        seeds: Seeds of the two backbones.
        deviations: Of each one's top-1 between seeds, in points.
        settings: How many settings both ran in.
        apart: Whether settings have test images of their own.
        heavy: Whether luck of seeds is t-distributed.
    """

    images: int = 597
    seeds: tuple[int, int] = (3, 3)
    deviations: tuple[float, float] = (0.0, 0.0)
    settings: int = 1
    apart: bool = False
    heavy: bool = False

    @property
    def name(self) -> str:
        """In words."""
        settings = f"{self.settings}{' apart' if self.apart else ''}"
        return (
            f"{self.images:>6} {self.seeds[0]}, {self.seeds[1]}  "
            f"{self.deviations[0]:>4g} / {self.deviations[1]:<4g}{'t3' if self.heavy else '  '}  "
            f"{settings:<8}"
        )


DEVIATIONS = (0.0, 0.3, 1.2, 3.4, 6.9)
WORLDS = (
    *(World(seeds=(n, n), deviations=(d, d)) for n in (2, 3, 5, 8) for d in DEVIATIONS),
    *(World(images=n, deviations=(d, d)) for n in (100, 5000) for d in (0.0, 1.2, 6.9)),
    *(World(seeds=(n, n), deviations=(0.3, 6.9)) for n in (2, 3, 5, 8)),
    *(World(seeds=(n, n), deviations=(1.2, 3.4), images=5000) for n in (2, 3)),
    World(seeds=(2, 5), deviations=(3.4, 3.4)),
    World(seeds=(2, 8), deviations=(6.9, 1.2)),
    *(World(deviations=(d, d), settings=3, apart=apart)
      for apart in (False, True) for d in (0.0, 1.2, 6.9)),
    World(seeds=(2, 2), deviations=(0.3, 6.9), settings=3, apart=True),
    *(World(deviations=(d, d), heavy=True) for d in (1.2, 3.4, 6.9)),
    World(deviations=(1.2, 6.9), heavy=True),
)  # fmt: skip


def session(world: World, gap: float, rng: np.random.Generator) -> dict[str, dict[str, Cell]]:
    """The cells of one session, by setting and backbone; ``a`` is better by ``gap`` of top-1."""
    cells: dict[str, dict[str, Cell]] = {}
    shared = rng.standard_normal(world.images, np.float32)
    for number in range(world.settings):
        if world.apart and number:
            shared = rng.standard_normal(world.images, np.float32)
        row = cells.setdefault(f"setting {number}", {})
        for key, count, deviation, ahead in zip(
            "ab", world.seeds, world.deviations, (gap / 2, -gap / 2), strict=True
        ):
            luck = (
                rng.standard_t(3, count) / math.sqrt(3)
                if world.heavy
                else rng.standard_normal(count)
            )
            level = np.clip(LEVEL + ahead + deviation / 100 * luck, 0.01, 0.99)
            hard = math.sqrt(_SHARED) * shared
            hard = hard + math.sqrt(_OWN) * rng.standard_normal(world.images, np.float32)
            noise = rng.standard_normal((count, world.images), np.float32)
            right = hard + math.sqrt(_SEED) * noise < ndtri(level)[:, None]
            dataset = f"data {number if world.apart else 0}"
            row[key] = cell_of(right.astype(np.float64), dataset)
    return cells


def cell_of(right: Values, dataset: str) -> Cell:
    """A cell from which images each seed got right, ``(seeds, n)``."""
    return Cell(
        value=float(right.mean()),
        units=right.mean(axis=0),
        units_of=dataset,
        seeds=len(right),
        by_seed=dict(enumerate(right.mean(axis=1).tolist())),
        unsteady=unsteady_variance(right),
        seeded=True,
    )


def old_p(cells: dict[str, dict[str, Cell]]) -> float:
    """The rule that was shipped before, for scores with outcomes."""
    paired: dict[str, Values] = {}
    for row in cells.values():
        first, second = row["a"], row["b"]
        if first.units is None or second.units is None:
            continue
        parts = (first.units - second.units) / len(first.units)
        paired[first.units_of] = paired.get(first.units_of, np.zeros(len(parts))) + parts
    joined = np.concatenate([*paired.values()])
    deviation = math.sqrt(float(np.square(joined).sum()) or 1.0)
    return float(2 * ndtr(-abs(float(joined.sum())) / deviation))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What some sessions gave, ``(trials,)`` each.

    Attributes:
        gaps: Sum of the differences of both scores over settings.
        old: The old rule's p.
        new: The new one's.
    """

    gaps: Values
    old: Values
    new: Values


def play(world: World, gap: float, trials: int, rng: np.random.Generator) -> Found:
    """Sessions of a world."""
    rows = []
    for _ in range(trials):
        cells = session(world, gap, rng)
        found = difference(cells, dict.fromkeys(cells, 1.0), "a", "b")
        rows.append((found.ahead, old_p(cells), 1.0 if found.p is None else found.p))
    gaps, old, new = np.array(rows).T
    return Found(gaps=gaps, old=old, new=new)


def shares(world: World, trials: int, rng: np.random.Generator) -> tuple[Values, Values, float]:
    """How often each rule (old, new, ideal) calls the two different, and the gap that is there.

    Returns:
        Shares where both are equal; shares where they are not; by how many points of top-1, such
        that the ideal rule finds it in four sessions of five.
    """
    equal = play(world, 0.0, trials, rng)
    deviation = float(equal.gaps.std())
    bound = -float(ndtri(ALPHA / 2)) * deviation
    gap = (bound + float(ndtri(0.8)) * deviation) / world.settings
    apart = play(world, gap, trials, rng)
    called = [
        np.array([(found.old < ALPHA).mean(), (found.new < ALPHA).mean(),
                  (np.abs(found.gaps) > bound).mean()])
        for found in (equal, apart)
    ]  # fmt: skip
    return called[0], called[1], 100 * gap


def table(worlds: Sequence[World], trials: int, rng: np.random.Generator) -> None:
    """Print a row for every world."""
    columns = "".join(f"{name:>7}" for name in ("old", "new", "ideal"))
    print(f"{'':<38}{'called different':>21}   {'found':>21}")
    print(f"images seeds deviations    settings    {columns}   {columns}    of points")
    for world in worlds:
        false, power, gap = shares(world, trials, rng)
        cells = ["".join(f"{share:>7.1%}" for share in row) for row in (false, power)]
        print(f"{world.name:<39}{cells[0]}   {cells[1]}    {gap:>9.1f}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=400, help="per world (400)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    started = time.perf_counter()
    table(WORLDS, args.trials, np.random.default_rng(args.seed))
    error = 100 * math.sqrt(ALPHA * (1 - ALPHA) / args.trials)
    print(
        f"\n{args.trials:,} sessions a share; at {ALPHA:.0%} its standard error is {error:.1f} "
        f"points; {time.perf_counter() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
