"""What the gate's rules give: false alarms and power in simulated worlds.

A case of three judged metrics has a reference of eight or three seeds among eleven others of its
kind. Nothing changes, or the score falls by three deviations between seeds while the losses stay
where they are, or all three fall by as much. Each rule then goes through both stages, on the same
draws::

    python -m benchmarks.gate_power
    python -m benchmarks.gate_power --trials 100000 --drops

Rules:
    before: two extra seeds, the spread of reference and pool alone, levels shared out equally.
    now: the rules of ``bob.references.gate``.
    known: those with every deviation known: what no rule without that knowledge can reach.

Worlds:
    calm: all backbones spread alike, normally.
    restless: this backbone spreads three times as far as those its spread is pooled with.
    heavy tails: Student's t of three degrees of freedom, of the same variance.
    outliers: one seed in twenty is four deviations off, to either side.

The rules of rankings follow, from ``benchmarks.ranking_power``.

The table is reckoned on arrays. Some trials go through ``bob.references`` itself first, and a
decision that differs ends the program.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks import ranking_power
from bob.case import Case, Result, Status
from bob.catalog import load_catalog
from bob.plan import Plan, Selection
from bob.references.bands import ENOUGH_FREEDOM, POOL_SEEDS, from_scale
from bob.references.files import ReferenceStore
from bob.references.gate import ALPHA_SECOND, SCORE_SHARE, needs_second_stage, stages
from bob.references.judge import Gate

Values = NDArray[np.float64]
METRICS = 3
OTHERS = 11
ALIKE = 0.6
"""Correlation of the judged metrics over seeds."""
_OUTLIERS = 0.05
_FAR = 4.0


@dataclass(frozen=True)
class World:
    """How seeds spread.

    Attributes:
        tails: ``normal``, ``t3`` or ``outliers``.
        restless: How many times as far this backbone spreads as the others.
    """

    name: str
    tails: str = "normal"
    restless: float = 1.0


WORLDS = (
    World("calm"),
    World("heavy tails", "t3"),
    World("outliers", "outliers"),
    World("restless", restless=3.0),
    World("restless, heavy tails", "t3", 3.0),
    World("restless, outliers", "outliers", 3.0),
)


@dataclass(frozen=True)
class Draws:
    """Values of many trials, higher is better, in deviations of the case.

    Attributes:
        reference: ``(trials, seeds, metrics)``.
        others: ``(trials, backbones, seeds, metrics)``.
        new: ``(trials, seeds, metrics)``, the first stage's seed first; as many as a rule may ask.
    """

    reference: Values
    others: Values
    new: Values

    def shifted(self, drop: Values) -> Draws:
        """The same draws with the new seeds worse by ``(metrics,)``."""
        return replace(self, new=self.new - drop)


def draw(world: World, trials: int, seeds: int, rng: np.random.Generator) -> Draws:
    """Draws of a world, before any change."""

    def values(*shape: int) -> Values:
        loading = np.linalg.cholesky(
            np.full((METRICS, METRICS), ALIKE) + (1 - ALIKE) * np.eye(METRICS)
        )
        if world.tails == "t3":
            return rng.standard_t(3, (*shape, METRICS)) / math.sqrt(3) @ loading.T
        found = rng.standard_normal((*shape, METRICS)) @ loading.T
        if world.tails == "outliers":
            hit = rng.random((*shape, 1)) < _OUTLIERS
            found = found + hit * _FAR * rng.choice([-1.0, 1.0], (*shape, 1))
            found /= math.sqrt(1 + _OUTLIERS * _FAR**2)
        return found

    return Draws(
        values(trials, seeds),
        values(trials, OTHERS, seeds) / world.restless,
        values(trials, 1 + stages(seeds).extra),
    )


Decision = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Whether the second stage was asked for, and whether the case is red, by trial."""


def before(draws: Draws) -> Decision:
    """The rule that was shipped before."""
    seeds = draws.reference.shape[1]
    own = draws.reference.var(1, ddof=1)
    pooled = _pooled(draws.reference, draws.others)
    freedom = seeds - 1 + POOL_SEEDS
    deviation = np.sqrt(((seeds - 1) * own + POOL_SEEDS * pooled) / freedom)
    asked = _worse(draws, 1, deviation, -stdtrit(freedom, 0.05 / METRICS))
    return asked, asked & _worse(draws, 3, deviation, -stdtrit(freedom, 0.01 / METRICS))


def known(draws: Draws) -> Decision:
    """Today's rule with the deviation and the correlation of the metrics known."""
    from scipy.stats import norm

    seeds = draws.reference.shape[1]
    joined = _joined(draws, np.ones((len(draws.new), METRICS)))
    deviation = np.ones(METRICS + 1)
    deviation[-1] = math.sqrt((1 + (METRICS - 1) * ALIKE) / METRICS)
    asked = _worse(joined, 1, deviation, norm.isf(stages(seeds).first * _shares()))
    runs = joined.new.shape[1]
    return asked, asked & _worse(joined, runs, deviation, norm.isf(ALPHA_SECOND * _shares()))


def now(draws: Draws) -> Decision:
    """The rule of ``bob.references``."""
    seeds = draws.reference.shape[1]
    first, _ = _spread(draws.reference, draws.others, draws.new[:, :1])
    joined = _joined(draws, first)
    decisions = []
    for runs, alpha in ((1, stages(seeds).first), (joined.new.shape[1], ALPHA_SECOND)):
        deviation, freedom = _spread(joined.reference, joined.others, joined.new[:, :runs])
        quantile = -stdtrit(freedom, alpha * _shares())
        decisions.append(_worse(joined, runs, deviation, quantile))
    return decisions[0], decisions[0] & decisions[1]


RULES: dict[str, Callable[[Draws], Decision]] = {"before": before, "now": now, "known": known}


def _shares() -> Values:
    guards = (1 - 2 * SCORE_SHARE) / (METRICS - 1)
    return np.array([SCORE_SHARE, *[guards] * (METRICS - 1), SCORE_SHARE])


def _joined(draws: Draws, deviation: Values) -> Draws:
    """The draws with the average of all metrics, each in its deviation, as one more."""
    mean = draws.reference.mean(1, keepdims=True)
    around = draws.others.mean(2, keepdims=True)

    def joined(values: Values, centre: Values, unit: Values) -> Values:
        return np.concatenate([values, ((values - centre) / unit).mean(-1, keepdims=True)], -1)

    return Draws(
        joined(draws.reference, mean, deviation[:, None]),
        joined(draws.others, around, deviation[:, None, None]),
        joined(draws.new, mean, deviation[:, None]),
    )


def _pooled(reference: Values, others: Values) -> Values:
    groups = others.shape[1] + 1
    pooled: Values = (others.var(2, ddof=1).sum(1) + reference.var(1, ddof=1)) / groups
    return pooled


def _spread(reference: Values, others: Values, new: Values) -> tuple[Values, int]:
    squares, freedom = 0.0 * reference[:, 0], 0
    for group in (reference, new):
        if group.shape[1] > 1:
            squares = squares + (group.shape[1] - 1) * group.var(1, ddof=1)
            freedom += group.shape[1] - 1
    if freedom < ENOUGH_FREEDOM:
        squares = squares + POOL_SEEDS * _pooled(reference, others)
        freedom += POOL_SEEDS
    return np.sqrt(squares / freedom), freedom


def _worse(
    draws: Draws, runs: int, deviation: Values, quantile: float | Values
) -> NDArray[np.bool_]:
    """Whether any metric's mean over the first runs is beyond its bound, ``(trials,)``."""
    error = deviation * math.sqrt(1 / runs + 1 / draws.reference.shape[1])
    distance = draws.new[:, :runs].mean(1) - draws.reference.mean(1)
    worse: NDArray[np.bool_] = (distance < -quantile * error).any(1)
    return worse


def agreement(trials: int, seeds: int, rng: np.random.Generator) -> int:
    """Trials in which the arrays and ``bob.references`` decide alike, of a world of half drops."""
    found = Plan(load_catalog(), Selection(scale="smoke")).cases("finetune")
    case, *rest = [replace(case, margins={}) for case in found]
    draws = draw(World("calm"), trials, seeds, rng).shifted(np.array([2.0, 1.0, 1.0]))
    asked, red = now(draws)
    same = 0
    with tempfile.TemporaryDirectory() as folder:
        for trial in range(trials):
            store = ReferenceStore(Path(folder) / str(trial), builtin=Path(folder) / "none")
            others = [replace(case, backbone=rest[0].backbone.model_copy(update={"key": str(n)}))
                      for n in range(OTHERS)]  # fmt: skip
            for other, values in zip(
                [case, *others], [draws.reference[trial], *draws.others[trial]], strict=True
            ):
                store.write(other, list(_results(other, values, 1000)))
            results = list(_results(case, draws.new[trial], 0))
            gate = Gate(store)
            first = gate.judge(case, results[:1])
            more = needs_second_stage(case, first)
            failed = more and gate.judge(case, results, stage=2).status is Status.FAIL
            same += (more, failed) == (bool(asked[trial]), bool(red[trial]))
    return same


def _results(case: Case, values: Values, first: int) -> Iterator[Result]:
    for seed, row in enumerate(values):
        metrics = {
            judged.name: from_scale(judged, (0.9 if judged.scale == "angular" else -1.0)
                                    + judged.sign * 0.02 * float(value))
            for judged, value in zip(case.judged, row, strict=True)
        }  # fmt: skip
        yield Result(case=case.with_seed(first + seed), metrics=metrics, weights_digest="w")


def detectable(rule: Callable[[Draws], Decision], draws: Draws, drop: Values) -> float:
    """Drop along ``(metrics,)`` that is red in four trials of five, in deviations."""
    low, high = 0.0, 12.0
    while high - low > 0.05:
        middle = (low + high) / 2
        caught = float(rule(draws.shifted(middle * drop))[1].mean())
        low, high = (low, middle) if caught >= 0.8 else (middle, high)
    return high


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20_000, help="per world (20,000)")
    parser.add_argument("--check", type=int, default=40, help="trials through bob itself (40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drops", action="store_true", help="the drops of 80 %% power too")
    parser.add_argument("--gate-only", action="store_true", help="nothing of rankings")
    args = parser.parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    for seeds in (8, 3):
        if args.check:
            same = agreement(args.check, seeds, rng)
            print(f"{same} of {args.check} decisions of the arrays are those of bob.references")
            if same != args.check:
                return 1
        rules = stages(seeds)
        print(
            f"\nreference of {seeds} seeds: {rules.extra} extra seeds at {rules.first:.0%}; red at "
            f"{ALPHA_SECOND:.0%}; {args.trials:,} trials"
        )
        header = ["world", "rule", "stage 2", "false alarms", "score -3 dev.", "all -3 dev."]
        header += ["score, 80 %", "all, 80 %"] if args.drops else []
        print(f"{header[0]:<22} {header[1]:<7}" + "".join(f"{name:>15}" for name in header[2:]))
        for world in WORLDS:
            draws = draw(world, args.trials, seeds, rng)
            score, every = np.eye(METRICS)[0], np.ones(METRICS)
            for name, rule in RULES.items():
                asked, red = rule(draws)
                cells = [f"{asked.mean():.1%}", f"{red.mean():.2%}"]
                cells += [
                    f"{rule(draws.shifted(3 * drop))[1].mean():.0%}" for drop in (score, every)
                ]
                if args.drops:
                    cells += [f"{detectable(rule, draws, drop):.1f}" for drop in (score, every)]
                print(f"{world.name:<22} {name:<7}" + "".join(f"{cell:>15}" for cell in cells))
    if args.gate_only:
        return 0
    print("\nrankings, as `python -m benchmarks.ranking_power` prints them:")
    return ranking_power.main(["--seed", str(args.seed)])


if __name__ == "__main__":
    sys.exit(main())
