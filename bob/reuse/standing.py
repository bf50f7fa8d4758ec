"""How a run stands: done before, to be compared, or to be run, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bob.case import Case
from bob.ledger.records import Recorded


class State(StrEnum):
    """What earlier sessions say of a run."""

    DONE = "done"
    """There is a result of the same run key."""

    LOOKED_AT = "done, if it loads the same"
    """There is a result of the same plan. Weights, data or code have no digest in the catalog, so
    that the case has to be loaded to tell."""

    FAILED = "failed"
    """It was run and has no score."""

    STALE = "stale"
    """Under the same names something else was run."""

    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What earlier sessions say of a run.

    Attributes:
        why: In a few words; empty where the state says it all.
        recorded: The result to be reused; only of ``done``.
        candidates: Results that count if what is loaded is what they were measured on.
    """

    state: State
    why: str = ""
    recorded: Recorded | None = None
    candidates: tuple[Recorded, ...] = ()


class Lookup(Protocol):
    """What an evaluator asks before it has a case run."""

    def __call__(self, case: Case, role: str) -> Standing:
        """How a run of a case stands."""


def nothing_earlier(case: Case, role: str) -> Standing:
    """Every case is to be run."""
    return Standing(state=State.MISSING)
