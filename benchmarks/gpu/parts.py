"""A part of the benchmark: its rows, and what went wrong without stopping the rest."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

Row = dict[str, Any]


@dataclass
class Part:
    """What a part found.

    Attributes:
        name: As of ``--skip``.
        deadline: On the clock of ``time.perf_counter``; nothing new is started past it.
        rows: Its figures.
        notes: What a reader should know, such as what there was no time for.
        errors: What failed, each with its step.
        skipped: Whether it was not wanted.
        seconds: What it took.
    """

    name: str
    deadline: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    skipped: bool = False
    seconds: float = 0.0

    @property
    def status(self) -> str:
        """``ok``, ``failed`` or ``skipped``."""
        if self.skipped:
            return "skipped"
        return "failed" if self.errors else "ok"

    def late(self, expected: float = 0.0) -> bool:
        """Whether something that takes so many seconds would end past the deadline."""
        return time.perf_counter() + expected > self.deadline

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Keep an error to itself, and give memory back whatever happens."""
        print(f"{self.name}: {what}", flush=True)
        try:
            yield
        except Exception as error:
            self.fail(what, f"{type(error).__name__}: {error}")
            traceback.print_exc()
        finally:
            release()

    def fail(self, what: str, why: str) -> None:
        """Note that a step failed."""
        text = f"{what}: {' '.join(why.split())}"
        self.errors.append(text)
        print(f"{self.name}: FAILED {text}", file=sys.stderr, flush=True)


def release() -> None:
    """Give memory that nothing refers to back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
