"""A small repository with a suite of its own, and what its store and its ledger hold."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.faults.tally import Tally
from bob.ledger import Ledger

PATIENCE_SECONDS = 90.0
"""A session that is still there so long after it was asked to end hangs."""

_ROOT = Path(__file__).parents[2]
_CATALOG = """
scales:
  faults:
    description: seconds for a dozen cases; real digits, real training
    tasks:
      finetune:
        datasets: [digits]
        margin: 0.005
        reference_seeds: 4
        recipe: {epochs: 3, batch_size: 100, image_size: 32, lr: 0.05, layer_decay: 1.0,
          warmup_epochs: 0, warmup_lr: 0.0, drop_path: 0.0, label_smoothing: 0.0, mixup: 0.0,
          cutmix: 0.0, rand_augment: null, color_jitter: 0.0, crop_scale: 1.0, hflip: 0.0,
          random_erase: 0.0}
backbones:
  pixels_coarse:
    {family: pixels, source: "bob.backbones.micro:pooled_pixels", arguments: {grid: 4},
     pretraining: none, scales: [faults]}
  pixels_fine:
    {family: pixels, source: "bob.backbones.micro:pooled_pixels", arguments: {grid: 8},
     pretraining: none, scales: [faults]}
"""
_INI = """[pytest]
bob_catalog = own.yaml
bob_scale = faults
bob_same_seed = off
testpaths = test_own.py
"""
_SUITE = """
import pytest

@pytest.mark.finetune
def test_finetune(case, battle):
    battle(case)
"""


class Project:
    """A repository with two backbones and one suite, a second or two a case.

    Args:
        folder: Where it is made.
        store: Tracking URI; empty for its own SQLite file.
    """

    def __init__(self, folder: Path, *, store: str = "") -> None:
        self.folder, self.store = folder, store
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "own.yaml").write_text(_CATALOG)
        (folder / "pytest.ini").write_text(_INI)
        (folder / "test_own.py").write_text(_SUITE)

    @property
    def database(self) -> Path:
        """The file of its own store."""
        return self.folder / "mlruns" / "mlflow.db"

    @property
    def ledger(self) -> Ledger:
        """Its results."""
        return Ledger(self.folder / "mlruns" / "ledger")

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, seeds: int = 2
    ) -> subprocess.Popen[str]:
        """A session in a process group of its own."""
        named = ["--tracking-uri", self.store] if self.store else []
        command = ["-m", "pytest", "-p", "no:cacheprovider", f"--seeds={seeds}", *named, *words]
        return self._popen(command, environment)

    def sync(self) -> subprocess.CompletedProcess[str]:
        """``bob sync``."""
        named = ["--tracking-uri", self.store] if self.store else []
        return ended(self._popen(["-m", "bob.cli", "sync", *named], None), 300)

    def _popen(
        self, words: Sequence[str], environment: Mapping[str, str] | None
    ) -> subprocess.Popen[str]:
        paths = os.pathsep.join([str(_ROOT), str(self.folder)])
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.folder, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=_hear_signals,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {}), "PYTHONPATH": paths},
        )  # fmt: skip

    def statuses(self) -> Counter[str]:
        """How many runs of its own store have each status."""
        return Counter(
            status
            for (status,) in self._ask("select status from runs where lifecycle_stage = 'active'")
        )

    def session_statuses(self) -> list[str]:
        """The statuses of its sessions' own runs."""
        query = (
            "select status from runs join tags using (run_uuid) "
            "where key = 'bob.level' and value = 'session' and lifecycle_stage = 'active'"
        )
        return [status for (status,) in self._ask(query)]

    def _ask(self, query: str) -> list[tuple[str]]:
        """Read past MLflow, which would make a schema; nothing where there is none yet."""
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def hold_together(self, tally: Tally, what: str) -> None:
        """Every result of the ledger has to be in MLflow once, after ``bob sync``."""
        done = self.sync()
        if done.returncode:
            tally.bad(f"{what}: bob sync ended with {done.returncode}: {done.stdout[-300:]}")
        kept = {f"{found.session}/{found.entry}" for found in self.ledger.entries()}
        sent = self._tickets()
        tally.lost += len(kept - sent.keys())
        tally.duplicated += sum(count - 1 for count in sent.values())
        if kept - sent.keys():
            tally.notes.append(f"{what}: not in MLflow: {sorted(kept - sent.keys())}")

    def _tickets(self) -> Counter[str]:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.store or f"sqlite:///{self.database}")
        found: Counter[str] = Counter()
        for experiment in client.search_experiments(filter_string="name LIKE 'bob/%'"):
            for run in client.search_runs([experiment.experiment_id], max_results=5000):
                tags = run.data.tags
                if run.info.status in ("FINISHED", "FAILED") and "bob.entry" in tags:
                    found[f"{tags['bob.session']}/{tags['bob.entry']}"] += 1
        return found


def _hear_signals() -> None:
    """Jobs in the background ignore some signals, and sessions heed that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process: subprocess.Popen[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a process; one that takes longer is killed, with status -9."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, -9, output)
    return subprocess.CompletedProcess(process.args, process.returncode, output)
