"""Checkpoints inside a case: a case that is stopped goes on where it stood.

One file a run, named by its run key. This module alone imports no torch: the evaluator removes the
file of a run whose result has been kept. What is in a file: ``encoding`` and ``file``. What writes
it while a case runs: ``case_checkpoint``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ENDING = ".case"
UNFINISHED = ".writing"


def path_of(folder: Path, run_key: str) -> Path:
    """The file of a run."""
    return folder / f"{run_key}{ENDING}"


def unfinished_path(folder: Path, run_key: str) -> Path:
    """What this process writes it to before it is renamed."""
    return folder / f".{run_key}-{os.getpid()}{UNFINISHED}"


def remove(folder: Path, run_key: str) -> None:
    """Remove the checkpoint of a run, and what ended processes left of it; quiet where none is."""
    if not run_key:
        return
    with suppress(OSError):
        path_of(folder, run_key).unlink(missing_ok=True)
    remove_unfinished(folder, run_key)


def remove_unfinished(folder: Path, run_key: str) -> None:
    """Remove what this process and processes that have ended left half-written of a run."""
    from psutil import pid_exists

    for path in _unfinished(folder, run_key):
        pid = path.name.removesuffix(UNFINISHED).rpartition("-")[2]
        if pid.isdecimal() and (int(pid) == os.getpid() or not pid_exists(int(pid))):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _unfinished(folder: Path, run_key: str) -> Iterator[Path]:
    with suppress(OSError):
        yield from folder.glob(f".{run_key}-*{UNFINISHED}")
