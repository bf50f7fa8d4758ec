"""A folder in which a part of the smoke scale runs, and what came of it."""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.faults.project import Project

SELECTION = (
    "--pyargs", "suites", "-k", "resnet_micro_glyphs and digits or swin_micro_random and digits",
    "-m", "knn or linear_probe or low_shot or finetune",
)  # fmt: skip

Run = tuple[str, str, int]
"""Task, name and seed."""


class SmokeProject(Project):
    """A folder in which a selection of the smoke scale runs, with a store of its own.

    Args:
        folder: Where it is made.
        store: Tracking URI; empty for its own SQLite file.
        options: Further words of its sessions, such as an executor's.
        selection: Words that choose its cases.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: str = "",
        options: tuple[str, ...] = (),
        selection: tuple[str, ...] = SELECTION,
    ) -> None:
        super().__init__(folder, store=store)
        (folder / "pytest.ini").write_text("[pytest]\n")
        self.options, self.selection = options, selection

    def session(self, *further: str) -> subprocess.Popen[str]:
        """The session, which goes on where earlier ones ended."""
        words = ("--resume", "--save-every=0", "--progress=off", *self.options, *further)
        return self.start(*self.selection, *words, seeds=2)

    def left_processes(self) -> list[str]:
        """What still runs in its folder, as words."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder):
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
        return found

    def last_kept(self) -> float:
        """When the last result was kept, in seconds since 1970; 0 where there is none."""
        times = [path.stat().st_mtime for path in self.ledger.root.glob("*/*/result.json")]
        return max(times, default=0.0)

    @property
    def checkpoints(self) -> Path:
        """Where running cases write theirs."""
        return self.folder / "mlruns" / "checkpoints"

    def scores(self) -> dict[Run, tuple[float, ...]]:
        """Metrics of every result that has a score; of one that is there twice, both."""
        found: dict[Run, tuple[float, ...]] = {}
        for entry in self.ledger.entries():
            result = entry.result
            if result.failure is None:
                run = (result.case.task, result.case.name, result.case.seed)
                values = (result.score or 0.0, result.metrics.get("test_loss", 0.0))
                found[run] = (*found.get(run, ()), *values)
        return found

    def seconds(self) -> float:
        """What the results that have a score took, from loading to the last picture."""
        return sum(
            entry.result.timings.get("total", 0.0)
            for entry in self.ledger.entries()
            if entry.result.failure is None
        )

    def finished_runs(self) -> Counter[Run]:
        """How many MLflow runs of each seed of each case have ended well."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.store or f"sqlite:///{self.database}")
        found: Counter[Run] = Counter()
        sessions = set(self.ledger.sessions())
        for experiment in client.search_experiments(filter_string="name LIKE 'bob/%'"):
            for run in client.search_runs([experiment.experiment_id], max_results=5000):
                tags = run.data.tags
                ours = tags.get("bob.session") in sessions and tags.get("bob.entry")
                if ours and run.info.status == "FINISHED":
                    task = experiment.name.rsplit("/", 1)[-1]
                    name, _, seed = run.info.run_name.rpartition("-s")
                    found[task, name, int(seed)] += 1
        return found
