"""What became of the tries of a fault."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one group of faults.

    Attributes:
        tries: How often a fault was made.
        lost: Results that had been reported and are nowhere, or not in MLflow after ``bob sync``.
        duplicated: Results that a store has more than once.
        hung: Processes that had to be killed.
        wrong: Whatever else should not be: a status, a secret told, a foreign file gone.
        notes: A line for each that counts, and what else is worth a line.
    """

    name: str
    tries: int = 0
    lost: int = 0
    duplicated: int = 0
    hung: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong, and something was tried."""
        return self.tries > 0 and not (self.lost or self.duplicated or self.hung or self.wrong)

    def bad(self, note: str, *, wrong: int = 1) -> None:
        """Count something wrong."""
        self.wrong += wrong
        self.notes.append(note)

    def row(self) -> tuple[str, ...]:
        """For the table."""
        counts = (self.tries, self.lost, self.duplicated, self.hung, self.wrong)
        return (self.name, *map(str, counts))
