"""What rules for the probe's strength choose on the shipped backbones, and what that is worth.

Every rule sees the held-out tenth alone. Its C is refitted on the whole train split and read on the
test split: top-1, test loss and expected calibration error. The last columns are the best test loss
of the grid, which no rule may know, and how much the chosen C and its test loss move when the
features are changed by a ten-millionth::

    python -m benchmarks.probe_choice [--rounds 2]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable

import torch
from torch.nn import functional

from bob.datasets.subsets import held_out
from bob.heads.logistic import C_VALUES, FitRows, HeadPath, LinearHead, fit
from bob.heads.probe import fit_probe
from bob.metrics.calibration import equal_width_error
from tests.micro_features import MICRO, Split, features_of

Rule = Callable[[torch.Tensor, torch.Tensor], int]
"""Position in the grid, from held-out losses ``(45, n)`` and hits ``(45, n)``."""


def middle_of_the_most_accurate(losses: torch.Tensor, hits: torch.Tensor) -> int:
    """The middle one of the values at most one image behind the best: the first protocol's rule."""
    right = hits.sum(1)
    near = (right >= right.max() - 1).nonzero()[:, 0]
    return int(near[(len(near) - 1) // 2])


def least_loss(losses: torch.Tensor, hits: torch.Tensor) -> int:
    """The value of the least held-out loss."""
    return int(losses.mean(1).argmin())


def one_standard_error(losses: torch.Tensor, hits: torch.Tensor) -> int:
    """The smallest value within one standard error of the least loss, paired by image."""
    behind = losses - losses[least_loss(losses, hits)]
    error = behind.std(1) / math.sqrt(losses.shape[1])
    return int((behind.mean(1) <= error).nonzero()[0])


RULES: dict[str, Rule] = {
    "version 1": middle_of_the_most_accurate,
    "least loss": least_loss,
    "one SE": one_standard_error,
}


def scores(head: LinearHead, split: Split) -> tuple[float, float, float]:
    """Top-1, cross-entropy and calibration error on the test split."""
    logs = head.logits(split.test.to(head.weight)).double().log_softmax(1)
    confidences, predicted = logs.exp().max(1)
    right = predicted == split.test_targets
    return (
        float(right.double().mean()),
        float(functional.nll_loss(logs, split.test_targets)),
        equal_width_error(confidences.numpy(), right.numpy()),
    )


def chosen(split: Split) -> dict[str, float]:
    """The C of each rule of the grid."""
    known, unseen = (torch.from_numpy(rows) for rows in held_out(split.targets, 0.1))
    truth = split.targets[unseen]
    losses, hits = [], []
    for _, head in HeadPath(FitRows(split.train[known], split.targets[known], classes=10)):
        logits = head.logits(split.train[unseen]).double()
        losses.append(functional.cross_entropy(logits, truth, reduction="none"))
        hits.append(logits.argmax(1) == truth)
    both = torch.stack(losses), torch.stack(hits)
    return {name: C_VALUES[rule(*both)] for name, rule in RULES.items()}


def moved(split: Split, round_: int) -> tuple[float, float]:
    """C and test loss of the suite's probe; from the second round on with noise of 1e-7."""
    generator = torch.Generator().manual_seed(round_)
    noise = 1e-7 * torch.randn(split.train.shape, generator=generator) if round_ else 0.0
    probe = fit_probe(
        split.train * (1 + noise), split.targets, classes=10, values=C_VALUES, holdout=0.1
    )
    return probe.c, scores(probe.head, split)[1]


def main() -> None:
    """Command line."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--rounds", type=int, default=2)
    rounds = command.parse_args().rounds
    names = (*RULES, "suite")
    print("| backbone, data | " + " | ".join(names) + " | best of the grid | moved: C, loss |")
    print("| --- |" + " --- |" * (len(names) + 2))
    excess: dict[str, list[float]] = {name: [] for name in names}
    accuracy: dict[str, list[float]] = {name: [] for name in names}
    calibration: dict[str, list[float]] = {name: [] for name in names}
    for dataset in ("digits", "font_digits"):
        for backbone in MICRO:
            split = features_of(backbone, dataset)
            again = [moved(split, round_) for round_ in range(max(rounds, 1))]
            picks = {**chosen(split), "suite": again[0][0]}
            path = HeadPath(FitRows(split.train, split.targets, classes=10))
            best = min((scores(head, split)[1], c) for c, head in path)
            cells = []
            for name, c in picks.items():
                head = fit(split.train, split.targets, classes=10, c=c, dtype=torch.float64)
                top1, loss, error = scores(head, split)
                excess[name].append(loss - best[0])
                accuracy[name].append(top1)
                calibration[name].append(error)
                cells.append(f"{c:.3g}: {top1:.4f}, {loss:.4f}, {error:.4f}")
            cells.append(f"{best[1]:.3g}: {best[0]:.4f}")
            apart = [
                max(abs(part / first - 1) for part in parts)
                for first, parts in (
                    (again[0][place], [found[place] for found in again]) for place in (0, 1)
                )
            ]
            cells.append(f"{apart[0]:.0e}, {apart[1]:.0e}")
            print(f"| {backbone}, {dataset} | " + " | ".join(cells) + " |", flush=True)
    means = [
        f"{statistics.fmean(accuracy[name]):.4f}, +{statistics.fmean(excess[name]):.4f}, "
        f"{statistics.fmean(calibration[name]):.4f}"
        for name in names
    ]
    print("| mean top-1, loss above the best, ECE | " + " | ".join(means) + " | | |")


if __name__ == "__main__":
    main()
