"""The script that makes faults: it counts them, and says so by its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import GROUPS
from benchmarks.faults.tally import Tally

ROOT = Path(__file__).parents[1]


def faults(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *words], cwd=ROOT, capture_output=True,
        text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_anything_that_counts_is_not_clean() -> None:
    assert not Tally("nothing was tried").clean
    for name in ("lost", "duplicated", "hung", "wrong"):
        tally = Tally("fault", tries=3)
        assert tally.clean
        setattr(tally, name, 1)
        assert not tally.clean
    tally.bad("told")
    assert tally.row() == ("fault", "3", "0", "0", "0", "2")


def test_a_group_that_is_not_there_is_named() -> None:
    done = faults("kils")
    assert done.returncode == 2
    assert "no group 'kils'; there are interrupts, kills" in done.stderr


@pytest.mark.slow
def test_a_group_is_tried_and_counted() -> None:
    done = faults("references", "--tries", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split() == ["references", "2", "0", "0", "0", "0"]
    assert "references" in GROUPS
