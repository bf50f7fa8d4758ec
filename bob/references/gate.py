"""The gate's rules: its levels and how metrics share them, margins, stages, and which seeds run.

Stage 1 asks whether the seeds that ran lie below the band at ``ALPHA_FIRST``. If so the extra seeds
run, and stage 2 fails the mean over all of them below the band at ``ALPHA_SECOND``; between the two
bounds it is inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bob.case import Case, Status, Verdict
from bob.protocols import Judged

ALPHA_FIRST = 0.05
"""Chance that an unchanged case runs extra seeds: the price of noticing drops in restless cases."""

ALPHA_SECOND = 0.01
"""Chance that the mean over all seeds of an unchanged case lies below its bound."""

EXTRA_SEEDS = 2
"""Seeds that the second stage adds."""

REFERENCE_SEED = 1000
"""References are measured on seeds from here, so that no check repeats one of their runs."""


@dataclass(frozen=True)
class Levels:
    """Chances that one metric of an unchanged case falls off its worse side.

    Attributes:
        first: At stage 1.
        second: At stage 2, and beyond the better side at either.
    """

    first: float
    second: float


def levels(case: Case) -> Levels:
    """Levels of each judged metric: they share those of the case equally (Bonferroni)."""
    share = len(case.judged)
    return Levels(ALPHA_FIRST / share, ALPHA_SECOND / share)


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


def check_cases(case: Case, count: int) -> list[Case]:
    """The case with each seed of a check; one where no seed matters.

    Args:
        case: The case; its seed is the first.
        count: Seeds of a case that they matter to.
    """
    return _seeds(case, case.seed, count)


def extra_cases(case: Case, runs: Sequence[Case]) -> list[Case]:
    """The case with the seeds that the second stage adds to those of ``runs``."""
    return [case.with_seed(case.seed + len(runs) + index) for index in range(EXTRA_SEEDS)]


def reference_cases(case: Case, count: int | None = None) -> list[Case]:
    """The case with each seed its reference is measured on.

    Args:
        case: The case.
        count: Seeds of a case that they matter to; the case's own number by default.
    """
    count = case.reference_seeds if count is None else count
    return _seeds(case, REFERENCE_SEED + case.seed, count)


def _seeds(case: Case, first: int, count: int) -> list[Case]:
    return [case.with_seed(first + index) for index in range(count if case.seeded else 1)]
