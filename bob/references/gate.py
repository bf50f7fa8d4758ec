"""The gate's rules: its levels and how metrics share them, margins, stages, and which seeds run.

Stage 1 asks whether the seeds that ran lie below the band at a generous level. If so the extra
seeds run, and stage 2 fails the mean over all of them below the band at ``ALPHA_SECOND``; near the
bound it is inconclusive. A case can only fail through stage 2, so that its false alarms are fewer
than ``ALPHA_SECOND`` however often stage 1 asks for more seeds.

``python -m benchmarks.gate_power`` simulates what the numbers below give.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count, islice

from bob.case import Case, Status, Verdict
from bob.protocols import Judged

ALPHA_SECOND = 0.01
"""Chance that the mean over all seeds of an unchanged case lies below a bound of its own."""

ALPHA_DOUBT = 0.05
"""Level at which the mean of stage 2 is called inconclusive."""

LARGE_REFERENCE = 6
"""Seeds of a reference from which its spread is known well enough for fewer extra seeds."""

REFERENCE_SEED = 1000
"""References are measured on seeds from here, so that no check repeats one of their runs."""

SCORE_SHARE = 0.45
"""Share of a level that the score has, and the average of all judged metrics as much again."""


@dataclass(frozen=True)
class Stages:
    """What the two stages take, by the size of a reference.

    Attributes:
        first: Chance that an unchanged case runs extra seeds: the price of noticing small drops.
        extra: Seeds that the second stage adds.
    """

    first: float
    extra: int


def stages(reference_seeds: int) -> Stages:
    """Stages of a case whose reference has so many seeds.

    A small reference knows neither its mean nor its spread well: to notice the same drop it takes
    more extra seeds, and they have to run more often.
    """
    return Stages(0.10, 5) if reference_seeds >= LARGE_REFERENCE else Stages(0.25, 8)


@dataclass(frozen=True)
class Levels:
    """Chances that one statistic of an unchanged case falls off its worse side.

    Attributes:
        first: At stage 1.
        doubt: At stage 2, where beyond it the case is inconclusive.
        second: At stage 2, and beyond the better side at either.
    """

    first: float
    doubt: float
    second: float


def levels(case: Case, reference_seeds: int, judged: Judged | None = None) -> Levels:
    """Levels of one judged metric, or of the average of all.

    The score and the average of all judged metrics have most of the case's levels; the other
    metrics share the rest, so that a large change of one of them alone is caught as well. A single
    judged metric has them whole.

    Args:
        case: The case.
        reference_seeds: Seeds of its reference.
        judged: One of its judged metrics; the average of all by default.
    """
    guards = len(case.judged) - 1
    if not guards:
        share = 1.0
    elif judged is None or judged.name == case.metric:
        share = SCORE_SHARE
    else:
        share = (1 - 2 * SCORE_SHARE) / guards
    first = stages(reference_seeds).first
    return Levels(first * share, ALPHA_DOUBT * share, ALPHA_SECOND * share)


def margin(case: Case, judged: Judged) -> float:
    """Smallest change for the worse that matters; 0 for a metric the case names none for."""
    return case.margins.get(judged.name, 0.0)


def needs_second_stage(case: Case, verdict: Verdict) -> bool:
    """Whether a first verdict asks for more seeds.

    It does where a metric was outside its band. A missing metric, a reference of another protocol
    and a score no better than chance stay what they are, and where no seed matters more seeds tell
    nothing.
    """
    return verdict.status is Status.FAIL and bool(verdict.comparisons) and case.seeded


def check_cases(case: Case, number: int) -> list[Case]:
    """The case with each seed of a check; one where no seed matters.

    Args:
        case: The case; its seed is the first.
        number: Seeds of a case that they matter to.
    """
    return _seeds(case, case.seed, number)


def extra_cases(
    case: Case, runs: Sequence[Case], *, reference_seeds: Collection[int]
) -> list[Case]:
    """The case with the seeds that the second stage adds to those of ``runs``.

    Args:
        case: The case; its seed is the first.
        runs: Those of the first stage.
        reference_seeds: Seeds of its reference, none of which is run again.
    """
    extra = stages(len(reference_seeds)).extra
    taken = {*reference_seeds, *(run.seed for run in runs)}
    free = (seed for seed in count(case.seed) if seed not in taken)
    return [case.with_seed(seed) for seed in islice(free, extra)]


def reference_cases(case: Case, number: int | None = None) -> list[Case]:
    """The case with each seed its reference is measured on.

    Args:
        case: The case.
        number: Seeds of a case that they matter to; the case's own number by default.
    """
    number = case.reference_seeds if number is None else number
    return _seeds(case, REFERENCE_SEED + case.seed, number)


def _seeds(case: Case, first: int, number: int) -> list[Case]:
    return [case.with_seed(first + index) for index in range(number if case.seeded else 1)]
