from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "timm", "mlflow", "sklearn", "matplotlib", "lightning_fabric", "scipy")
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "pytest", "--collect-only", "-qs", "suites"],
        ["-m", "pytest", "--collect-only", "-qs", "suites", "--backbone", "timm:test_vit"],
        ["-m", "bob.cli", "plan", "--no-cpu"],
    ],
)
def test_collection_imports_nothing_heavy(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "bob.plan" in imported
    loaded = {name.split(".", 1)[0] for name in imported}
    assert not loaded & set(HEAVY)
