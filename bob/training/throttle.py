"""How often progress is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Throttle:
    """Says when progress is due again; the first time at once.

    Attributes:
        seconds: Least time between two reports.
    """

    seconds: float = 0.5
    _last: float = field(default=-float("inf"), init=False)

    def due(self) -> bool:
        """Whether to report now; if so, the time runs anew."""
        now = time.perf_counter()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
