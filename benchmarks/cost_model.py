"""How well the cost model predicts the published measurements it is made of.

    python -m benchmarks.cost_model

Forward passes: each row of the table predicted from the same architecture's other resolutions, and
from the nearest other architecture of its family and of any other family. Updates: each training
row predicted from the forward row of the same architecture, resolution and GPU. Factors are either
way, so that 1.5 is both half as much again and a third less.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from unittest.mock import patch

from bob.cost.model import TRAIN
from bob.cost.speed import ArchitectureFacts, Speeds
from bob.cost.table import Row, family_of, gpus, rows


def main() -> None:
    """Print the factors."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    forward = [row for row in rows() if row.mode == "infer"]
    for gpu, count in gpus().items():
        print(f"{gpu}: {count} forward measurements")

    def same(row: Row, other: Row) -> bool:
        return other.architecture == row.architecture and other.image_size != row.image_size

    def family(row: Row, other: Row) -> bool:
        relatives = family_of(other.architecture) == family_of(row.architecture)
        return other.architecture != row.architecture and relatives

    def stranger(row: Row, other: Row) -> bool:
        return family_of(other.architecture) != family_of(row.architecture)

    kinds: dict[str, Callable[[Row, Row], bool]] = {
        "another resolution": same, "nearest of the family": family,
        "nearest of another family": stranger,
    }  # fmt: skip
    for name, fits in kinds.items():
        show(name, list(predicted(forward, fits)))
    speeds = {(r.gpu, r.architecture, r.image_size): r.images_per_second for r in forward}
    ratios = [
        speeds[key] / row.images_per_second
        for row in rows()
        if row.mode == "train" and (key := (row.gpu, row.architecture, row.image_size)) in speeds
    ]
    print(
        f"update by forward pass: median {median(ratios):.2f}, {min(ratios):.2f} to "
        f"{max(ratios):.2f}, over {len(ratios)} architectures"
    )
    for factor in (3.0, TRAIN):
        show(f"update as {factor:g} forward passes", [ratio / factor for ratio in ratios])


def predicted(forward: Sequence[Row], fits: Callable[[Row, Row], bool]) -> Iterable[float]:
    """Prediction by measurement of every row that something else can predict."""
    for row in forward:
        others = tuple(other for other in forward if other.gpu == row.gpu and fits(row, other))
        if not others:
            continue
        facts = ArchitectureFacts(row.architecture, family_of(row.architecture), row.parameters_m)
        speeds = Speeds(row.gpu)
        fastest = max(other.images_per_second for other in forward if other.gpu == row.gpu)
        # The model itself, over the table without what is to be predicted.
        parts = {"_rows": others, "_others": (), "_all": others, "_fastest": fastest}
        with patch.dict(speeds.__dict__, parts):
            speed = speeds.forward(facts, row.image_size)
        yield speed.images_per_second / row.images_per_second


def show(name: str, ratios: Sequence[float]) -> None:
    """One line: median and tail of the factors."""
    factors = sorted(math.exp(abs(math.log(ratio))) for ratio in ratios)
    at = [factors[min(len(factors) - 1, int(q * len(factors)))] for q in (0.5, 0.9, 1.0)]
    print(
        f"{name:<26}  {len(ratios):>3} rows: within {at[0]:.2f} for half, {at[1]:.2f} for nine in "
        f"ten, {at[2]:.2f} for all"
    )


if __name__ == "__main__":
    main()
