"""What a session keeps on disk, and what it could not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bob.checkpoints import remove
from bob.errors import BobError
from bob.ledger.ledger import Ledger
from bob.ledger.records import Judgement, Recorded


@dataclass(frozen=True)
class Unkept:
    """A result that could not be written to the ledger.

    Attributes:
        run_id: Its MLflow run, if it has one.
        problem: Why, and what to do.
    """

    recorded: Recorded
    run_id: str | None
    problem: str


@dataclass
class Keeper:
    """Writes results and verdicts to a ledger; what it does not take is tried again at the end.

    Attributes:
        ledger: Where to; none keeps nothing.
        checkpoints: Folder of those of running cases; one of a result that is kept is removed.
        problems: What else than results could not be kept.
        unkept: Results that could not be kept.
    """

    ledger: Ledger | None
    checkpoints: Path | None = None
    problems: list[str] = field(default_factory=list)
    unkept: list[Unkept] = field(default_factory=list)
    _verdicts: list[tuple[Judgement, str]] = field(default_factory=list)

    def result(self, recorded: Recorded, run_id: str | None) -> None:
        """Keep a result."""
        problem = self._write(recorded)
        if problem:
            self.unkept.append(Unkept(recorded, run_id, problem))

    def has(self, run_key: str) -> None:
        """Remove the checkpoint of a run whose result is in the ledger."""
        if self.checkpoints is not None:
            remove(self.checkpoints, run_key)

    def verdict(self, judgement: Judgement) -> None:
        """Keep a verdict."""
        problem = self._write_verdict(judgement)
        if problem:
            self.problems.append(problem)
            self._verdicts.append((judgement, problem))

    def try_again(self) -> None:
        """Keep what could not be kept: there may be room by now."""
        self.unkept = [unkept for unkept in self.unkept if self._write(unkept.recorded)]
        for judgement, problem in self._verdicts:
            if not self._write_verdict(judgement):
                self.problems.remove(problem)

    def _write(self, recorded: Recorded) -> str:
        """Why a result cannot be kept; empty where it is."""
        try:
            if self.ledger is not None:
                self.ledger.write(recorded)
        except BobError as error:
            return str(error)
        self.has(recorded.result.run_key)
        return ""

    def _write_verdict(self, judgement: Judgement) -> str:
        try:
            if self.ledger is not None:
                self.ledger.write_verdict(judgement)
        except (OSError, TypeError, ValueError) as error:
            return f"verdict {judgement.name}: {error}"
        return ""
