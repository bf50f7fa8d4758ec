"""What became of a case: its results, its verdict, and the reference that was written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bob.case import Case, Failure, Result, Verdict
from bob.ledger.records import Recorded
from bob.references.forms import Reference


class Bands(StrEnum):
    """What to do with references: hold against them, or write them."""

    CHECK = "check"
    NEW = "new"
    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True)
class Update:
    """A reference that was written."""

    case: Case
    old: Reference | None
    new: Reference


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A judged case.

    Attributes:
        results: One a seed, those of a written reference included.
        roles: ``check`` or ``reference`` for each of them; empty where all are checks.
        run_ids: MLflow runs behind the verdict, one a seed.
        run_id: The MLflow run that stands for the case: the only one, or the parent of several.
        failure: Set when a seed has no score.
        update: The reference that was written, if any.
        reused: Results that are of earlier sessions.
    """

    case: Case
    results: tuple[Result, ...]
    verdict: Verdict
    roles: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()
    run_id: str | None = None
    failure: Failure | None = None
    update: Update | None = None
    reused: tuple[Recorded, ...] = ()
