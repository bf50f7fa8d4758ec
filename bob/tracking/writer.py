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

from bob.startup import importing
from bob.tracking.destination import Destination
from bob.tracking.projection import TEXT_LIMIT, Point, RunContent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_METRICS_AT_ONCE = 1000
_PAGE = 500


@dataclass
class Writer:
    """The calls to MLflow that a record is made of; errors are the caller's affair."""

    destination: Destination
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
            self.experiment(experiment), start_time=start, run_name=name, tags=_cut(tags)
        )
        run_id: str = run.info.run_id
        return run_id

    def add(self, run_id: str, content: RunContent) -> None:
        """Add to a run: params, metrics and tags in as few calls as may be, then files."""
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
        if content.files:
            with tempfile.TemporaryDirectory() as folder:
                for name, data in content.files.items():
                    (Path(folder) / name).write_bytes(data)
                self.client.log_artifacts(run_id, folder)

    def log(self, run_id: str, points: Sequence[Point]) -> None:
        """Log metrics."""
        for first in range(0, len(points), _METRICS_AT_ONCE):
            batch = points[first : first + _METRICS_AT_ONCE]
            self.client.log_batch(run_id, metrics=_metrics(batch))

    def end(self, run_id: str, status: str, *, at: int | None = None) -> None:
        """End a run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self.client.set_terminated(run_id, status, end_time=at)

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
        location = (folder / name.replace("/", "-")).absolute().as_uri() if folder else None
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
        uri = self.destination.uri
        if not uri.startswith("sqlite:///"):
            yield
            return
        with FileLock(uri.removeprefix("sqlite:///") + ".lock", timeout=300):
            yield


def _cut(texts: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text if name == "bob.metrics" else text[:TEXT_LIMIT] for name, text in texts.items()
    }


def _metrics(points: Sequence[Point]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value, step in points]


def _dataset_input(dataset: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    given = Dataset(source_type="code", **{name: str(value) for name, value in dataset.items()})
    return DatasetInput(given, [InputTag("mlflow.data.context", "train and test")])
