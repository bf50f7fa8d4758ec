"""Sessions that resume, in processes of their own, and what they leave in ledger and store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bob.ledger import Ledger
from bob.tracking import resolve_store
from bob.tracking.writer import Writer
from tests.store_parts import hearing

ROOT = Path(__file__).parents[1]
WORDS = ("-p", "no:cacheprovider", "--seeds=4", "--progress=off")


def start(project: pytest.Pytester, store: str, *words: str) -> subprocess.Popen[str]:
    """A session of two cases of four seeds, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *WORDS, "--tracking-uri", store, *words],
        cwd=project.path, text=True, preexec_fn=hearing,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def entries_in(project: pytest.Pytester, store: str) -> Counter[str]:
    """How many runs each result has."""
    writer = Writer(resolve_store(project.path, store))
    runs = writer.search(writer.experiments("bob/"))
    return Counter(
        f"{run.data.tags['bob.session']}/{run.data.tags['bob.entry']}"
        for run in runs
        if "bob.entry" in run.data.tags and run.info.status == "FINISHED"
    )


def levels_in(project: pytest.Pytester, store: str) -> Counter[str]:
    """How many runs of each level there are; but for sessions', all have ended well."""
    writer = Writer(resolve_store(project.path, store))
    runs = writer.search(writer.experiments("bob/"))
    for run in runs:
        of_session = run.data.tags["bob.level"] == "session"
        assert run.info.status == "FINISHED" or (of_session and run.info.status == "KILLED")
    return Counter(run.data.tags["bob.level"] for run in runs)


def results_of(ledger: Ledger) -> Counter[str]:
    """The results of a ledger."""
    return Counter(f"{entry.session}/{entry.entry}" for entry in ledger.entries())
