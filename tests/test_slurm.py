"""The batch script for Slurm, run by bash with Slurm's variables set by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
]

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "slurm" / "bob.sbatch"


def script(folder: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """The script in a folder, with commands of this Python in front of others."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, module in (("bob", "bob.cli"), ("pytest", "pytest")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "MLFLOW_"))
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *words],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={
            **kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "SCALE": "smoke",
            "PYTHONPATH": str(ROOT), "SLURM_SUBMIT_DIR": str(folder), **variables,
        },
    )  # fmt: skip


def element(number: int, count: int) -> dict[str, str]:
    return {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_MIN": "1",
            "SLURM_ARRAY_TASK_COUNT": str(count)}  # fmt: skip


def collected(output: str) -> list[str]:
    lines = (line for line in output.splitlines() if "::test_" in line)
    return sorted(line for line in lines if not line.endswith("[none]"))


def test_the_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_the_elements_of_an_array_run_every_case_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--pyargs", "suites", "--scale", "smoke"]
    only = ["--collect-only", "-q", "-p", "no:cacheprovider", "-k", "knn or finetune"]
    whole = subprocess.run(
        [*command, *only], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    parts = []
    for number in (1, 2, 3):
        session = script(tmp_path, *only, **element(number, 3))
        output, _ = session.communicate(timeout=120)
        assert session.returncode == 0, output
        parts.append(collected(output))
    assert all(parts)
    assert sorted(test for part in parts for test in part) == collected(whole.stdout)
    spare = script(tmp_path, *only, **element(9, 9))
    assert "No backbone is left for element 9" in spare.communicate(timeout=120)[0]
    assert spare.returncode == 0


def test_a_signal_to_the_batch_shell_ends_the_session_in_order(tmp_path: Path) -> None:
    words = ["-k", "linear_probe_paper or finetune", "-p", "no:cacheprovider", "-x"]
    session = script(tmp_path, *words, **element(1, 8))
    ledger = tmp_path / "mlruns" / "ledger"
    until = time.monotonic() + 120
    while not list(ledger.glob("*/session.json")) and session.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(1.0)  # the first case runs
    session.send_signal(signal.SIGTERM)
    output, _ = session.communicate(timeout=120)
    assert session.returncode in (2, 75), output  # as pytest itself ends on this signal
    assert "battle of the backbones" in output, output
    assert list(ledger.glob("*/summary.json")), output
