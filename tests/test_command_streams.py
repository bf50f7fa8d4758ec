"""Output of the command ``bob`` that nobody reads to its end, or that cannot be written."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bob.ledger import Ledger
from bob.report.summary_text import Outcome

BOB = f"{shlex.quote(sys.executable)} -m bob.cli"
EMPTY = "summary --ledger ledger"
"""A session in which nothing ran, which is a status of its own."""
LONG = "list backbones --scale full"


def shell(folder: Path, words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A pipe of commands; its status is that of the first one that fails."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", words], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Ledger(tmp_path / "ledger").open_session("s", {})
    return tmp_path


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_makes_no_success(folder: Path, unbuffered: str) -> None:
    done = shell(folder, f"{BOB} {EMPTY} | true", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) in ((Outcome.NOTHING, ""), (141, ""))
    done = shell(folder, f"{BOB} {LONG} | head -n 1", PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("words", [EMPTY, LONG, "--help", "--version"])
def test_output_that_cannot_be_written_is_told_and_is_no_verdict(folder: Path, words: str) -> None:
    done = shell(folder, f"{BOB} {words} > /dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith("bob: The output cannot be written (")
    assert len(done.stderr.splitlines()) == 1


def test_closed_streams_change_no_status(folder: Path) -> None:
    assert shell(folder, f"{BOB} {EMPTY} >&-").returncode == Outcome.NOTHING
    assert shell(folder, f"{BOB} summary --ledger nowhere 2>&-").returncode == 2
    assert shell(folder, f"{BOB} summary --ledger nowhere 2>/dev/full").returncode == 2
