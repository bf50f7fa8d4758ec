"""Writing to one MLflow store, in batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bob.artifacts.names import REFUSED, is_artifact_name
from bob.shown import line
from bob.tracking.client import alone, open_client
from bob.tracking.destination import Destination, artifact_folder
from bob.tracking.moved import settle
from bob.tracking.patience import Patience, retries
from bob.tracking.process import process_tags
from bob.tracking.projection import TEXT_LIMIT, Point, RunContent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

_METRICS_AT_ONCE = 1000
_PAGE = 500
_WHOLE = ("bob.metrics", "bob.case", "bob.run_key")

UNSENT = "bob.unsent"
"""Tag of a run that names artifacts which its store did not take."""
INCOMPLETE = "bob.incomplete"
"""Tag of a run that names what else its store refused."""
_SLOWEST_UPLOAD = 100_000
"""Bytes per second; an upload that is slower counts as one that does not move."""
_REFUSED = "INVALID_PARAMETER_VALUE"
"""MLflow's code for what it would refuse every time."""
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's codes of failures after which nobody knows whether a request was carried out."""

Answer = TypeVar("Answer")


@dataclass
class Writer:
    """The calls to MLflow that a record is made of; errors are the caller's affair.

    Attributes:
        remarks: What had to be put right, and artifacts that a store did not take.
        patience: How long the store may keep this writer waiting.
        doubtful: Runs of which the store may have made a second one: experiment and id by ticket.
    """

    destination: Destination
    remarks: list[str] = field(default_factory=list)
    patience: Patience = field(default_factory=Patience)
    doubtful: dict[str, tuple[str, str]] = field(default_factory=dict)
    _experiments: dict[str, str] = field(default_factory=dict)
    _client: Any = None

    @property
    def client(self) -> MlflowClient:
        """The MLflow client; the first use imports MLflow and creates a missing schema."""
        if self._client is None:
            self._client = open_client(self.destination, self.patience)
        client: MlflowClient = self._client
        return client

    def settle(self) -> None:
        """Bring a local store that was moved in order; before anything is written.

        Raises:
            BobError: See ``bob.tracking.moved.settle``.
        """
        with alone(self.destination):
            self.remarks += settle(self.destination)

    def experiment(self, name: str) -> str:
        """Id of an experiment, which is created or brought back where it is missing."""
        if name not in self._experiments:
            found = self._named(name)
            if found is not None and found.lifecycle_stage == "deleted":
                self._ask(lambda client: client.restore_experiment(found.experiment_id))
            self._experiments[name] = found.experiment_id if found else self._create(name)
        return self._experiments[name]

    @property
    def known(self) -> Mapping[str, str]:
        """Ids of the experiments that were asked for, by name."""
        return self._experiments

    def experiments(self, prefix: str) -> list[str]:
        """Ids of the experiments whose names begin so."""
        return [experiment.experiment_id for experiment in self.named(prefix)]

    def named(self, prefix: str) -> list[Experiment]:
        """The experiments whose names begin so."""
        query = f"name LIKE '{prefix}%'"
        return list(self._ask(lambda client: client.search_experiments(filter_string=query)))

    def create(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        *,
        ticket: str,
        start: int | None = None,
    ) -> str:
        """Open a run; returns its id. One whose reply was lost is found again, not made twice.

        Args:
            experiment: Its name.
            name: Of the run.
            tags: Short ones.
            ticket: What this run alone is known by, whoever sends it.
            start: Milliseconds since 1970; now by default.
        """
        experiment_id = self.experiment(experiment)
        given = _cut({**tags, **process_tags(), "bob.ticket": ticket})
        lost = False
        for again in range(retries() + 1):
            try:
                # MLflow's own retry would make a second run
                run = self._ask(
                    lambda client: client.create_run(
                        experiment_id, start_time=start, run_name=line(name), tags=given
                    ),
                    environment={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
                )
            except Exception as error:
                lost = True
                code = getattr(error, "error_code", _PASSING[0])
                if code not in _PASSING or self.patience.over:
                    raise
                found = self.search([experiment_id], f"tags.`bob.ticket` = '{ticket}'")
                if not found:
                    if again == retries():
                        raise
                    time.sleep(0.5 * 2**again)
                    continue
                run = found[0]
            break
        run_id = str(run.info.run_id)
        if lost:
            self.doubtful[ticket] = (experiment_id, run_id)
        return run_id

    def add(self, run_id: str, content: RunContent, *, at: int | None = None) -> None:
        """Add to a run: params, metrics and tags in as few calls as may be, then files.

        A file that the store does not take is named in ``remarks`` and on the run, where ``bob
        sync`` finds it, and so are parameters and a dataset that it refuses; the rest goes on.

        Args:
            run_id: The run.
            content: What is added; a second time with the same ``at`` changes nothing.
            at: When its metrics were measured, in milliseconds since 1970; now by default.
        """
        from mlflow.entities import Param, RunTag

        at = milliseconds_now() if at is None else at
        self.log(run_id, content.metrics[_METRICS_AT_ONCE:], at=at)
        params = [Param(name, value) for name, value in _cut(content.params).items()]
        tags = [RunTag(name, value) for name, value in _cut(content.tags).items()]
        metrics = _metrics(content.metrics[:_METRICS_AT_ONCE], at)
        refused: dict[str, Exception] = {}
        try:
            self._batch(run_id, params=params, metrics=metrics, tags=tags)
        except Exception as error:
            if not params or not _is_refused(error):
                raise
            refused["parameters"] = error
            self._batch(run_id, params=[], metrics=metrics, tags=tags)
        if content.dataset is not None:
            inputs = [_dataset_input(content.dataset)]
            try:
                self._ask(lambda client: client.log_inputs(run_id, datasets=inputs))
            except Exception as error:
                if not _is_refused(error):
                    raise
                refused["dataset"] = error
        if refused:
            self._ask(lambda client: client.set_tag(run_id, INCOMPLETE, " ".join(refused)))
            self.remarks += [f"{name} refused: {line(error)}" for name, error in refused.items()]
        problems = self._send(run_id, content.files) if content.files else {}
        if problems:
            named = line(" ".join(problems), limit=TEXT_LIMIT)
            self._ask(lambda client: client.set_tag(run_id, UNSENT, named))
            self.remarks += [f"{name} did not arrive: {text}" for name, text in problems.items()]

    def _batch(self, run_id: str, **parts: list[Any]) -> None:
        self._ask(lambda client: client.log_batch(run_id, **parts))

    def _send(self, run_id: str, files: Mapping[str, bytes]) -> dict[str, str]:
        """Send files at once, or one by one if that fails; what did not arrive, and why."""
        refused = {name: REFUSED for name in files if not is_artifact_name(name)}
        files = {name: data for name, data in files.items() if name not in refused}
        if not files:
            return refused
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                self._ask(
                    lambda client: client.log_artifacts(run_id, folder),
                    extra=sum(map(len, files.values())) / _SLOWEST_UPLOAD,
                )
                return refused
            except Exception:
                return refused | self._send_each(run_id, Path(folder), list(files))

    def _send_each(self, run_id: str, folder: Path, names: Sequence[str]) -> dict[str, str]:
        """Send files one by one; when two have failed the rest is not tried."""
        problems: dict[str, str] = {}
        for name in names:
            if len(problems) >= 2:
                problems[name] = "not tried after two others"
                continue
            parent = Path(name).parent.as_posix()
            place = None if parent == "." else parent
            try:
                self._ask(
                    partial(_log_file, run_id=run_id, file=folder / name, place=place),
                    extra=(folder / name).stat().st_size / _SLOWEST_UPLOAD,
                )
            except Exception as error:
                problems[name] = line(f"{type(error).__name__}: {error}")
        return problems

    def log(self, run_id: str, points: Sequence[Point], *, at: int | None = None) -> None:
        """Log metrics."""
        at = milliseconds_now() if at is None else at
        for first in range(0, len(points), _METRICS_AT_ONCE):
            batch = _metrics(points[first : first + _METRICS_AT_ONCE], at)
            self._ask(partial(_log_metrics, run_id=run_id, metrics=batch))

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self.add(run_id, RunContent(tags=tags))

    def untag(self, run_id: str, name: str) -> None:
        """Take a tag off a run, which has it."""
        self._ask(lambda client: client.delete_tag(run_id, name))

    def end(self, run_id: str, status: str, *, at: int | None = None) -> None:
        """End a run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._ask(lambda client: client.set_terminated(run_id, status, end_time=at))

    def delete(self, run_id: str) -> None:
        """Put a run into MLflow's trash; one that is there already is no error."""
        try:
            self._ask(lambda client: client.delete_run(run_id))
        except Exception:  # it may be done, and the reply lost
            run = self._ask(lambda client: client.get_run(run_id))
            if run.info.lifecycle_stage != "deleted":
                raise

    def delete_with_nested(self, run_id: str) -> None:
        """Put a run and those nested under it into MLflow's trash."""
        run = self._ask(lambda client: client.get_run(run_id))
        query = f"tags.`mlflow.parentRunId` = '{run_id}'"
        for child in self.search([run.info.experiment_id], query):
            self.delete(child.info.run_id)
        if run.info.lifecycle_stage == "active":
            self.delete(run_id)

    def runs(self, session: str, experiments: Sequence[str]) -> list[Run]:
        """Every run of a session in some experiments, by id."""
        ids = []
        for name in experiments:
            found = self._named(name)
            if found is not None and found.lifecycle_stage == "active":
                ids.append(found.experiment_id)
        return self.search(ids, f"tags.`bob.session` = '{session}'") if ids else []

    def runs_in(self, experiment: str, query: str) -> list[Run]:
        """Runs of an experiment that a query finds; none where there is no such experiment."""
        found = self._named(experiment)
        if found is None or found.lifecycle_stage != "active":
            return []
        return self.search([found.experiment_id], query)

    def artifacts(self, run_id: str) -> dict[str, int]:
        """Bytes of the files of a run by name, less those in folders; 0 where no size is told."""
        return {
            item.path: item.file_size or 0
            for item in self._ask(lambda client: client.list_artifacts(run_id))
            if not item.is_dir
        }

    def download(self, run_id: str, name: str, folder: Path) -> Path:
        """A file of a run, brought into a folder."""
        path = self._ask(lambda client: client.download_artifacts(run_id, name, str(folder)))
        return Path(path)

    def search(self, experiment_ids: Sequence[str], query: str = "") -> list[Run]:
        """Every run that a query finds."""
        found: list[Run] = []
        token = None
        while True:
            page = self._ask(
                partial(_page, experiment_ids=list(experiment_ids), query=query, token=token)
            )
            found += page
            token = page.token
            if not token:
                return found

    def drop_twins(self) -> None:
        """Delete second runs that a store made of requests whose replies were lost."""
        for ticket, (experiment_id, kept) in list(self.doubtful.items()):
            for run in self.search([experiment_id], f"tags.`bob.ticket` = '{ticket}'"):
                if run.info.run_id != kept:
                    self.delete(run.info.run_id)
            del self.doubtful[ticket]

    def _ask(
        self,
        call: Callable[[MlflowClient], Answer],
        *,
        extra: float = 0.0,
        environment: Mapping[str, str] | None = None,
    ) -> Answer:
        client = self.client
        variables = {**self.destination.variables, **(environment or {})}
        return self.patience.ask(lambda: call(client), extra=extra, environment=variables)

    def _named(self, name: str) -> Any:
        return self._ask(lambda client: client.get_experiment_by_name(name))

    def _create(self, name: str) -> str:
        folder = self.destination.artifacts
        location = artifact_folder(folder, name).as_uri() if folder else None
        try:
            return str(self._ask(lambda client: client.create_experiment(name, location)))
        except Exception:
            found = self._named(name)
            if found is None:
                raise
            return str(found.experiment_id)  # another session was faster


def _cut(texts: Mapping[str, str]) -> dict[str, str]:
    """Tags or parameters as a store takes and a page shows them: without what acts, and short."""
    return {
        name: text if name in _WHOLE else line(text, limit=TEXT_LIMIT)
        for name, text in texts.items()
    }


def _is_refused(error: Exception) -> bool:
    return getattr(error, "error_code", "") == _REFUSED


def _log_file(client: MlflowClient, *, run_id: str, file: Path, place: str | None) -> None:
    client.log_artifact(run_id, str(file), place)


def _log_metrics(client: MlflowClient, *, run_id: str, metrics: list[Any]) -> None:
    client.log_batch(run_id, metrics=metrics)


def _page(client: MlflowClient, *, experiment_ids: list[str], query: str, token: Any) -> Any:
    return client.search_runs(
        experiment_ids, filter_string=query, max_results=_PAGE, page_token=token
    )


def milliseconds_now() -> int:
    """The time in milliseconds since 1970."""
    return int(time.time() * 1000)


def _metrics(points: Sequence[Point], at: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value, step in points]


def _dataset_input(dataset: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    given = Dataset(source_type="code", **{name: str(value) for name, value in dataset.items()})
    return DatasetInput(given, [InputTag("mlflow.data.context", "train and test")])
