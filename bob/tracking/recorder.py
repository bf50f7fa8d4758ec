"""What an evaluator needs of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bob.case import Case, Progress, Verdict
from bob.ledger.records import Recorded

Pair = tuple[str | None, Recorded]
"""The id of a run, none where the store did not take it, and what came out of it."""


class Recorder(Protocol):
    """What an evaluator needs of a tracker."""

    def start_case(self, case: Case, *, role: str, entry: str) -> str | None:
        """Open the run of a case; returns its id."""

    def log_progress(self, run_id: str | None, progress: Progress) -> None:
        """Log the metrics of an epoch."""

    def finish_case(self, run_id: str | None, recorded: Recorded) -> None:
        """Log what came out and end the run."""

    def adopt(self, recorded: Recorded) -> str | None:
        """Find the run of a result of an earlier session, or make it; returns its id."""

    def log_verdict(self, pairs: Sequence[Pair], verdict: Verdict, *, name: str) -> str | None:
        """Log what the runs mean; returns the id of the run that stands for the case."""

    def drop(self, run_ids: Sequence[str]) -> None:
        """Take runs out that a later evaluation of the same case stands for."""

    def kill(self, run_id: str | None) -> None:
        """Mark a run that was interrupted."""


class NoTracker:
    """Records nothing, for machines without MLflow and for measurements of the rest."""

    def start_case(self, case: Case, *, role: str, entry: str) -> str | None:
        """No run."""
        return None

    def log_progress(self, run_id: str | None, progress: Progress) -> None:
        """Nothing."""

    def finish_case(self, run_id: str | None, recorded: Recorded) -> None:
        """Nothing."""

    def adopt(self, recorded: Recorded) -> str | None:
        """No run."""
        return None

    def log_verdict(self, pairs: Sequence[Pair], verdict: Verdict, *, name: str) -> str | None:
        """Nothing."""
        return None

    def drop(self, run_ids: Sequence[str]) -> None:
        """Nothing."""

    def kill(self, run_id: str | None) -> None:
        """Nothing."""
