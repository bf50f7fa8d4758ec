"""How OpenMP's threads wait, as OpenMP itself tells when torch loads it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bob.case import Case

ROOT = Path(__file__).resolve().parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP is libgomp on Linux")
NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def python(*arguments: str, cwd: Path = ROOT, **setting: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in NAMES}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=environment | setting,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done


def told(text: str) -> dict[str, str]:
    """Settings of libgomp as ``OMP_DISPLAY_ENV`` has them written."""
    lines = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    return {key.split("]")[-1].strip(): value.strip().strip("'") for key, value in lines}


@LINUX
@pytest.mark.parametrize(
    ("setting", "policy", "spins"),
    [
        ({}, "PASSIVE", "0"),
        ({"OMP_WAIT_POLICY": "active"}, "ACTIVE", None),
        ({"GOMP_SPINCOUNT": "17"}, "PASSIVE", "17"),
    ],
)
def test_threads_sleep_unless_the_user_says_otherwise(
    setting: dict[str, str], policy: str, spins: str | None
) -> None:
    script = "from bob.run import run_case\nimport sys\nassert 'torch' not in sys.modules\n"
    done = python("-c", script + "import torch", OMP_DISPLAY_ENV="verbose", **setting)
    settings = told(done.stderr)
    assert settings["OMP_WAIT_POLICY"] == policy
    assert spins in (None, settings["GOMP_SPINCOUNT"])


@LINUX
@pytest.mark.slow
def test_a_session_of_pytest_waits_so_too(project: pytest.Pytester) -> None:
    done = python(
        "-m", "pytest", "-s", "-k", "fine-digits", cwd=project.path, OMP_DISPLAY_ENV="verbose"
    )
    assert told(done.stderr)["GOMP_SPINCOUNT"] == "0"


SCORE = """
import json, pickle, sys
from bob.case import Context
from bob.run import run_case

result = run_case(pickle.loads(bytes.fromhex(sys.argv[1])), Context(accelerator="cpu"))
assert result.failure is None, result.failure
print(json.dumps([result.environment["threads"], [dict(epoch) for epoch in result.history]]))
"""


@pytest.mark.slow
def test_how_threads_wait_changes_no_score(tiny_case: Case) -> None:
    case = pickle.dumps(tiny_case).hex()
    histories = []
    for setting in ({}, {"GOMP_SPINCOUNT": "10000"}):
        done = python("-c", SCORE, case, OMP_NUM_THREADS="2", **setting)
        threads, history = json.loads(done.stdout.splitlines()[-1])
        assert threads == "2"
        histories.append([{key: value for key, value in epoch.items() if "system/" not in key}
                          for epoch in history])  # fmt: skip
    assert histories[0] == histories[1]
    assert {"train_loss", "test_loss", "top1"} <= histories[0][-1].keys()
