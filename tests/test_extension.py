"""A repository that brings its own protocol, data, executor and tracker touches nothing of bob."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ACME = Path(__file__).parent / "acme"
ROOT = Path(__file__).parents[1]
ENTRY_POINTS = """
[bob.protocols]
nearest_mean = acme_bob.nearest_mean:SPEC

[bob.executors]
acme = acme_bob.executor:ThreadExecutor
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def install(folder: Path, name: str, entry_points: str) -> None:
    """Metadata of an installed package."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    shutil.copytree(ACME, folder, ignore=shutil.ignore_patterns("__pycache__"))
    install(folder, "acme_bob", ENTRY_POINTS)
    return folder


@pytest.fixture
def run(acme: Path, empty_store: Callable[[Path], str]) -> Run:
    """Runs a command in acme's repository, where its package is installed."""
    store = empty_store(acme / "store.db")
    paths = os.pathsep.join([str(acme), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "MLFLOW_TRACKING_URI": store}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", "-m", *words], cwd=acme, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    return command


OPTIONS = ("--scale", "acme.yaml", "--backbone", "resnet_micro_glyphs", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_protocol_dataset_executor_and_tracker_of_a_package(acme: Path, run: Run) -> None:
    done = run("pytest", *OPTIONS, "--executor", "acme", "--bands", "all", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("pytest", *OPTIONS, "--executor", "acme", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "nearest_mean  stripes" in done.stdout
    lines = [json.loads(line) for line in (acme / "acme.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["pass"] * 6
    assert {line["task"] for line in lines} == {"knn", "nearest_mean"}
    assert all(line["score"] > 0.5 for line in lines)
    judged = run("pytest", *OPTIONS, "-q", "-m", "nearest_mean")
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.slow
def test_options_reach_the_executor_of_a_package(acme: Path, run: Run) -> None:
    chosen = ("pytest", *OPTIONS, "-q", "--executor", "acme", "-k", "stripes and nearest")
    done = run(*chosen, "--executor-option", "journal=acme.log")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (acme / "acme.log").read_text() == "resnet_micro_glyphs-stripes nearest_mean\n"
    refused = run(*chosen, "--executor-option", "jornal=acme.log")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "option of executor 'acme' 'jornal'. Did you mean 'journal'?" in refused.stderr


@pytest.mark.slow
def test_the_command_line_knows_them(run: Run) -> None:
    tasks = run("bob.cli", "list", "tasks")
    assert "nearest_mean" in tasks.stdout
    assert "nearest class mean in frozen features" in tasks.stdout
    executors = run("bob.cli", "list", "executors")
    assert "acme" in executors.stdout.split()
    marked = run("pytest", "--markers", "-q")
    assert "nearest_mean" in marked.stdout


BROKEN = {
    "cannot be imported: ModuleNotFoundError": "missing = not_there:SPEC",
    "is str; expected a ProtocolSpec": "text = acme_bob.odd:TEXT",
    "calls itself 'nearest_mean'": "renamed = acme_bob.nearest_mean:SPEC",
    "a protocol of that name already": "knn = acme_bob.odd:KNN",
    "RuntimeError: no licence": "raising = acme_bob.raises:SPEC",
}
"""What is said of a protocol that cannot be used; each is of a package of its own."""


@pytest.mark.slow
def test_protocols_that_cannot_be_used_are_named_and_the_rest_runs(acme: Path, run: Run) -> None:
    (acme / "acme_bob" / "odd.py").write_text(
        "from bob.protocols.knn import SPEC as KNN\nTEXT = 'x'\n"
    )
    (acme / "acme_bob" / "raises.py").write_text("raise RuntimeError('no licence')\n")
    for number, entry_point in enumerate(BROKEN.values()):
        install(acme, f"broken{number}", f"[bob.protocols]\n{entry_point}\n")
    done = run("pytest", *OPTIONS, "-m", "nearest_mean", "-k", "stripes")
    assert done.returncode == 0, done.stdout + done.stderr
    header, _, rest = done.stdout.partition("collected ")
    told = [line for line in header.splitlines() if line.startswith("bob: ")]
    assert len(told) == len(BROKEN)
    summary = " ".join(rest.partition("protocols left out")[2].split())
    for number, words in enumerate(BROKEN):
        (line,) = [line for line in told if words in line]
        assert f"of broken{number}" in line
        assert words in summary
    assert "1 passed" in done.stdout
