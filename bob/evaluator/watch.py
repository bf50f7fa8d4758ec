"""What is shown of runs while a session goes on."""

from __future__ import annotations

from typing import Protocol

from bob.case import Case, Progress


class Watch(Protocol):
    """What is told of runs while a session goes on."""

    def planned(self, ticket: str, case: Case) -> None:
        """A run was handed to the executor."""

    def started(self, ticket: str) -> None:
        """It has started."""

    def moved(self, ticket: str, progress: Progress) -> None:
        """It has come further."""

    def ended(self, ticket: str) -> None:
        """It has ended, well or not."""

    def dropped(self, ticket: str) -> None:
        """It was called off."""

    def tick(self) -> None:
        """A test waits; called every second or more often."""


class Unwatched:
    """Shows nothing of it."""

    def planned(self, ticket: str, case: Case) -> None:
        """A run was handed to the executor."""

    def started(self, ticket: str) -> None:
        """It has started."""

    def moved(self, ticket: str, progress: Progress) -> None:
        """It has come further."""

    def ended(self, ticket: str) -> None:
        """It has ended, well or not."""

    def dropped(self, ticket: str) -> None:
        """It was called off."""

    def tick(self) -> None:
        """A test waits; called every second or more often."""
