"""Where the running cases stand, shown under pytest's output."""

from bob.progress.screen import ProgressLine

__all__ = ["ProgressLine"]
