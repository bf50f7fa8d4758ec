"""Writing to one MLflow store, in batches."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from bob.shown import line
from bob.startup import importing
from bob.tracking.destination import Destination, artifact_folder
from bob.tracking.moved import settle
from bob.tracking.projection import TEXT_LIMIT, Point, RunContent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_METRICS_AT_ONCE = 1000
_PAGE = 500
_WHOLE = ("bob.metrics", "bob.case", "bob.run_key")

UNSENT = "bob.unsent"
"""Tag of a run that names artifacts which its store did not take."""


@dataclass
class Writer:
    """The calls to MLflow that a record is made of; errors are the caller's affair.

    Attributes:
        remarks: What had to be put right, and artifacts that a store did not take.
    """

    destination: Destination
    remarks: list[str] = field(default_factory=list)
    _experiments: dict[str, str] = field(default_factory=dict)
    _client: Any = None

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the first use imports MLflow and creates a missing schema."""
        if self._client is None:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
            os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
            # MLflow's own use of SQLAlchemy warns at import; nobody here can act on it.
            with warnings.catch_warnings(), importing():
                warnings.simplefilter("ignore")
                from mlflow import MlflowClient

                for name in ("alembic", "mlflow"):
                    logging.getLogger(name).setLevel(logging.WARNING)
                with self._alone():
                    self._client = MlflowClient(tracking_uri=self.destination.uri)
                    self._client.search_experiments(max_results=1)
        client: MlflowClient = self._client
        return client

    def settle(self) -> None:
        """Bring a local store that was moved in order; before anything is written.

        Raises:
            BobError: See ``bob.tracking.moved.settle``.
        """
        with self._alone():
            self.remarks += settle(self.destination)

    def experiment(self, name: str) -> str:
        """Id of an experiment, which is created or brought back where it is missing."""
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            self._experiments[name] = found.experiment_id if found else self._create(name)
        return self._experiments[name]

    @property
    def known(self) -> Mapping[str, str]:
        """Ids of the experiments that were asked for, by name."""
        return self._experiments

    def create(
        self, experiment: str, name: str, tags: Mapping[str, str], *, start: int | None = None
    ) -> str:
        """Open a run; returns its id.

        Args:
            experiment: Its name.
            name: Of the run.
            tags: Short ones.
            start: Milliseconds since 1970; now by default.
        """
        run = self.client.create_run(
            self.experiment(experiment), start_time=start, run_name=line(name), tags=_cut(tags)
        )
        run_id: str = run.info.run_id
        return run_id

    def add(self, run_id: str, content: RunContent) -> None:
        """Add to a run: params, metrics and tags in as few calls as may be, then files.

        A file that the store does not take is named in ``remarks`` and on the run, where ``bob
        sync`` finds it; the rest goes on.
        """
        from mlflow.entities import Param, RunTag

        self.log(run_id, content.metrics[_METRICS_AT_ONCE:])
        self.client.log_batch(
            run_id,
            params=[Param(name, value) for name, value in _cut(content.params).items()],
            metrics=_metrics(content.metrics[:_METRICS_AT_ONCE]),
            tags=[RunTag(name, value) for name, value in _cut(content.tags).items()],
        )
        if content.dataset is not None:
            self.client.log_inputs(run_id, datasets=[_dataset_input(content.dataset)])
        problems = self._send(run_id, content.files) if content.files else {}
        if problems:
            self.client.set_tag(run_id, UNSENT, line(" ".join(problems), limit=TEXT_LIMIT))
            self.remarks += [f"{name} did not arrive: {text}" for name, text in problems.items()]

    def _send(self, run_id: str, files: Mapping[str, bytes]) -> dict[str, str]:
        """Send files at once, or one by one if that fails; what did not arrive, and why."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                self.client.log_artifacts(run_id, folder)
                return {}
            except Exception:
                return self._send_each(run_id, Path(folder), list(files))

    def _send_each(self, run_id: str, folder: Path, names: Sequence[str]) -> dict[str, str]:
        """Send files one by one; when two have failed the rest is not tried."""
        problems: dict[str, str] = {}
        for name in names:
            if len(problems) >= 2:
                problems[name] = "not tried after two others"
                continue
            parent = Path(name).parent.as_posix()
            try:
                place = None if parent == "." else parent
                self.client.log_artifact(run_id, str(folder / name), place)
            except Exception as error:
                problems[name] = line(f"{type(error).__name__}: {error}")
        return problems

    def log(self, run_id: str, points: Sequence[Point]) -> None:
        """Log metrics."""
        for first in range(0, len(points), _METRICS_AT_ONCE):
            batch = points[first : first + _METRICS_AT_ONCE]
            self.client.log_batch(run_id, metrics=_metrics(batch))

    def end(self, run_id: str, status: str, *, at: int | None = None) -> None:
        """End a run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self.client.set_terminated(run_id, status, end_time=at)

    def delete(self, run_id: str) -> None:
        """Put a run and those nested under it into MLflow's trash."""
        run = self.client.get_run(run_id)
        query = f"tags.`mlflow.parentRunId` = '{run_id}'"
        for child in self.search([run.info.experiment_id], query):
            self.client.delete_run(child.info.run_id)
        if run.info.lifecycle_stage == "active":
            self.client.delete_run(run_id)

    def runs(self, session: str, experiments: Sequence[str]) -> list[Run]:
        """Every run of a session in some experiments, by id."""
        ids = []
        for name in experiments:
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "active":
                ids.append(found.experiment_id)
        return self.search(ids, f"tags.`bob.session` = '{session}'") if ids else []

    def search(self, experiment_ids: Sequence[str], query: str = "") -> list[Run]:
        """Every run that a query finds."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                list(experiment_ids), filter_string=query, max_results=_PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _create(self, name: str) -> str:
        folder = self.destination.artifacts
        location = artifact_folder(folder, name).as_uri() if folder else None
        try:
            return str(self.client.create_experiment(name, location))
        except Exception:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)  # another session was faster

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two sessions that create the schema of a new SQLite file at once would break it."""
        database = self.destination.database
        if database is None:
            yield
            return
        with FileLock(f"{database}.lock", timeout=300):
            yield


def _cut(texts: Mapping[str, str]) -> dict[str, str]:
    """Tags or parameters as a store takes and a page shows them: without what acts, and short."""
    return {
        name: text if name in _WHOLE else line(text, limit=TEXT_LIMIT)
        for name, text in texts.items()
    }


def _metrics(points: Sequence[Point]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value, step in points]


def _dataset_input(dataset: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    given = Dataset(source_type="code", **{name: str(value) for name, value in dataset.items()})
    return DatasetInput(given, [InputTag("mlflow.data.context", "train and test")])
