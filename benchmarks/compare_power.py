"""What ``bob compare`` answers where the truth is known.

Pairs of backbones are simulated as in ``benchmarks.ranking_power``, in several settings each::

    python -m benchmarks.compare_power               # 200 pairs of each world and truth
    python -m benchmarks.compare_power --pairs 1000

Truths:
    equal: nothing differs, but for the luck of images and seeds.
    3 sigma: in one setting the second is worse by three deviations of a difference there.
    5 sigma: the same with five.
    at the edge: in every setting the second is worse by just what matters (``delta``).
    small: as equal; what matters is eight deviations of a difference, so that a few seeds can tell.

A pair counts as called different where any setting is "better" or "worse" (Holm over the settings),
and as called equivalent where any setting of one is. The level of either mistake is 5 %.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace

import numpy as np

from benchmarks.ranking_power import World, session
from bob.report.comparison import ALPHA, Answer, ComparedSides, Pair, compare

WORLDS = (
    World(seeds=(1, 1), settings=4, apart=True, images=597),
    *(World(seeds=(n, n), deviations=(d, d), settings=4, apart=True)
      for n in (3, 5, 8) for d in (0.3, 1.2)),
    World(seeds=(5, 5), deviations=(0.3, 3.4), settings=4, apart=True),
    World(seeds=(5, 5), deviations=(1.2, 1.2), settings=4, images=5000),
)  # fmt: skip
"""One seed is that of backbones in which nothing is random."""

_DEVIATIONS = 400
"""Pairs that the deviation of a difference is taken from."""


def compared(
    world: World, gaps: list[float], delta: float, rng: np.random.Generator
) -> ComparedSides:
    """One simulated pair; the second is worse by ``gaps`` in the settings."""
    pairs = []
    for number, gap in enumerate(gaps):
        row = session(replace(world, settings=1), gap, rng)["setting 0"]
        first, second = (replace(row[key], units_of=f"data {number}") for key in "ab")
        if world.seeds == (1, 1):
            first, second = replace(first, seeded=False), replace(second, seeded=False)
        pairs.append(Pair(subject="", setting=str(number), before=first, after=second, delta=delta))
    return compare(pairs)


def rates(world: World, pairs: int, rng: np.random.Generator) -> dict[str, float]:
    """Shares of the pairs, by truth and answer."""
    rows = [session(replace(world, settings=1), 0.0, rng) for _ in range(_DEVIATIONS)]
    gaps = [row["setting 0"]["a"].value - row["setting 0"]["b"].value for row in rows]
    deviation = float(np.std(gaps))
    none = [0.0] * world.settings

    def share(answers: tuple[Answer, ...], gaps: list[float], delta: float, of: int = -1) -> float:
        found = 0
        for _ in range(pairs):
            contrasts = compared(world, gaps, delta, rng).contrasts
            asked = contrasts if of < 0 else contrasts[of : of + 1]
            found += any(contrast.answer in answers for contrast in asked)
        return found / pairs

    different = (Answer.BETTER, Answer.WORSE)
    small = 8 * deviation
    return {
        "equal": share(different, none, 0.0),
        "3 sigma": share((Answer.WORSE,), [3 * deviation, *none[1:]], 0.0, of=0),
        "5 sigma": share((Answer.WORSE,), [5 * deviation, *none[1:]], 0.0, of=0),
        "edge": share((Answer.EQUIVALENT,), [3 * deviation] * world.settings, 3 * deviation),
        "small": share((Answer.EQUIVALENT,), none, small, of=0),
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
    print(f"{'':<39}   equal: called   one worse by: found    edge: called   equal: called")
    print("images seeds deviations    settings      different   3 sigma   5 sigma      equivalent"
          "      equivalent")  # fmt: skip
    worst = 0.0
    for world in WORLDS:
        found = rates(world, args.pairs, rng)
        cells = (f"{share:>10.1%}" for share in found.values())
        print(f"{world.name:<39}{'     '.join(cells)}", flush=True)
        worst = max(worst, found["equal"], found["edge"])
    error = math.sqrt(ALPHA * (1 - ALPHA) / args.pairs)
    print(f"\n{args.pairs} pairs a share; at {ALPHA:.0%} its standard error is {error:.1%}")
    return int(worst > ALPHA + 3 * error)


if __name__ == "__main__":
    sys.exit(main())
