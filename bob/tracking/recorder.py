"""What an evaluator needs of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bob.case import Case, Progress, Result, Verdict


class Recorder(Protocol):
    """What an evaluator needs of a tracker."""

    def start_case(self, case: Case, *, role: str) -> str | None:
        """Open the run of a case; returns its id."""

    def log_progress(self, run_id: str | None, progress: Progress) -> None:
        """Log the metrics of an epoch."""

    def finish_case(self, run_id: str | None, result: Result) -> None:
        """Log what came out and end the run."""

    def log_verdict(self, run_ids: Sequence[str | None], verdict: Verdict) -> None:
        """Tag the runs a verdict rests on."""

    def kill(self, run_id: str | None) -> None:
        """Mark a run that was interrupted."""


class NoTracker:
    """Records nothing, for machines without MLflow and for measurements of the rest."""

    def start_case(self, case: Case, *, role: str) -> str | None:
        """No run."""
        return None

    def log_progress(self, run_id: str | None, progress: Progress) -> None:
        """Nothing."""

    def finish_case(self, run_id: str | None, result: Result) -> None:
        """Nothing."""

    def log_verdict(self, run_ids: Sequence[str | None], verdict: Verdict) -> None:
        """Nothing."""

    def kill(self, run_id: str | None) -> None:
        """Nothing."""
