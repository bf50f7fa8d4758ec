"""MLflow: the record of every case."""

from __future__ import annotations

import getpass
import json
import logging
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from bob import interrupts
from bob.case import Case, Progress, Result, Verdict
from bob.errors import BobError
from bob.gitinfo import GitState, git_state
from bob.hashing import file_name
from bob.report.files import result_files
from bob.startup import importing
from bob.tracking.entities import (
    case_tags,
    dataset_inputs,
    metrics,
    trial_tags,
    write_files,
)
from bob.tracking.store import Store, check_reachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

_LIMIT = 500


@dataclass
class Tracker:
    """Writes sessions and cases to one MLflow store, in batches.

    A store that stops answering does not stop the tests: what it did not take is kept under
    ``store.unsent`` and named in ``problems``.
    """

    store: Store
    scale: str
    root: Path
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    problems: list[str] = field(default_factory=list)
    session_run: str | None = None
    _experiments: dict[str, str] = field(default_factory=dict)
    _client: Any = None
    _git: GitState | None = None
    _failures: int = 0

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
                    self._client = MlflowClient(tracking_uri=self.store.uri)
                    self._client.search_experiments(max_results=1)
        client: MlflowClient = self._client
        return client

    def start_session(self, tags: Mapping[str, str]) -> None:
        """Open the store (creating its schema) and the session run.

        Raises:
            BobError: The store cannot be used.
        """
        check_reachable(self.store)
        self._git = git_state(self.root)
        try:
            experiment = self._experiment("sessions")
            with interrupts.held():
                run = self.client.create_run(
                    experiment,
                    run_name=f"session-{self.session}",
                    tags={**self._common_tags(), **tags},
                )
                self.session_run = run.info.run_id
        except Exception as error:
            raise BobError(
                f"Cannot record to {self.store.uri}: {type(error).__name__}: {error}. "
                "Nothing was run."
            ) from error
        except KeyboardInterrupt:
            self.kill(self.session_run)
            raise

    def start_case(self, case: Case, *, role: str) -> str | None:
        """Open the run of a case with its tags, parameters and dataset; returns its id.

        Args:
            case: What is about to run.
            role: ``check`` or ``reference``.
        """
        from mlflow.entities import Param

        run_id: str | None = None
        if self._down:
            return None
        with self._kept("start of " + case.name):
            run = self.client.create_run(
                self._experiment(case.task),
                run_name=f"{case.name}-s{case.seed}",
                tags={**self._common_tags(), **case_tags(case), "bob.role": role},
            )
            run_id = run.info.run_id
            params = {"backbone": case.backbone.key, "source": case.backbone.source}
            params |= {f"arg.{key}": str(v) for key, v in case.backbone.arguments.items()}
            params |= {key: str(v) for key, v in case.recipe.model_dump().items()}
            params |= {"seed": str(case.seed), "dataset": case.dataset.key}
            self.client.log_batch(
                run_id, params=[Param(key, value[:_LIMIT]) for key, value in params.items()]
            )
            self.client.log_inputs(run_id, datasets=dataset_inputs(case))
        return run_id

    def log_progress(self, run_id: str | None, progress: Progress) -> None:
        """Log the metrics of an epoch that ended, in one batch."""
        if run_id is None or self._down or not progress.metrics:
            return
        with self._kept("epoch metrics"):
            self.client.log_batch(
                run_id, metrics=metrics(progress.metrics, step=progress.epoch + 1)
            )

    def finish_case(self, run_id: str | None, result: Result) -> None:
        """Log final metrics, environment and artifacts, and end the run."""
        from mlflow.entities import RunTag

        files = result_files(result)
        sent = False
        if run_id is not None and not self._down:
            with self._kept(f"results of {result.case.name}"):
                final = {
                    **{key: v for key, v in result.metrics.items() if not result.history
                       or key not in result.history[-1]},
                    **{f"seconds_{phase}": value for phase, value in result.timings.items()},
                    "peak_memory_mb": result.peak_memory_mb,
                }  # fmt: skip
                tags = {f"env.{key}": value for key, value in result.environment.items()}
                tags["bob.weights"] = result.weights_digest
                tags["bob.data"] = result.data_digest
                if result.case.backbone.licence:
                    tags["bob.licence"] = result.case.backbone.licence
                if result.failure:
                    tags["bob.failure"] = f"{result.failure.kind}: {result.failure.message}"
                self.client.log_batch(
                    run_id,
                    metrics=metrics(final, step=0),
                    tags=[RunTag(key, value[:_LIMIT]) for key, value in tags.items()],
                )
                with tempfile.TemporaryDirectory() as folder:
                    write_files(Path(folder), files)
                    self.client.log_artifacts(run_id, folder)
                self._log_trials(run_id, result)
                self.client.set_terminated(run_id, "FAILED" if result.failure else "FINISHED")
                sent = True
        if not sent:
            self._keep(result, files)

    def _log_trials(self, parent: str, result: Result) -> None:
        """A nested run for every tried setting of a grid, and the chosen one on the case's run."""
        from mlflow.entities import Param

        case = result.case
        for trial in result.trials:
            name = ", ".join(filter(None, (trial.group, trial.label)))
            run = self.client.create_run(
                self._experiment(case.task),
                run_name=f"{case.name}-s{case.seed}: {name}",
                tags={**self._common_tags(), **case_tags(case), **trial_tags(trial, parent)},
            )
            values = {key: f"{value:g}" for key, value in trial.params.items()}
            values |= {"seed": str(case.seed)} | ({"group": trial.group} if trial.group else {})
            self.client.log_batch(
                run.info.run_id,
                params=[Param(key, value) for key, value in values.items()],
                metrics=metrics({**trial.metrics, "seconds_total": trial.seconds}, step=0),
            )
            self.client.set_terminated(run.info.run_id, "FAILED" if trial.failure else "FINISHED")
        chosen = [one for one in result.trials if one.chosen]
        if len(chosen) == 1:
            self.client.set_tag(parent, "bob.chosen", chosen[0].label)

    def log_verdict(self, run_ids: Sequence[str | None], verdict: Verdict) -> None:
        """Tag the runs a verdict rests on, and log the band beside the score."""
        from mlflow.entities import RunTag

        tags = {
            "bob.verdict": verdict.status.value,
            "bob.reason": verdict.reason[:_LIMIT],
            "bob.origin": verdict.origin[:_LIMIT],
            "mlflow.note.content": f"**{verdict.status.value}**: {verdict.reason}",
        }
        values: dict[str, float] = {}
        if verdict.score is not None:
            one = verdict.score
            values = {"band_low": one.low, "band_high": one.high, "delta": one.delta, "z": one.z}
        for stranger in verdict.published:
            values[f"published/{stranger.metric}"] = stranger.published
            values[f"published_delta/{stranger.metric}"] = stranger.delta
        if verdict.published:
            sources = dict.fromkeys(one.source for one in verdict.published)
            tags["bob.published"] = "; ".join(sources)[:_LIMIT]
        for run_id in run_ids:
            if run_id is not None and not self._down:
                with self._kept("verdict"):
                    self.client.log_batch(
                        run_id,
                        metrics=metrics(values, step=0),
                        tags=[RunTag(key, value) for key, value in tags.items()],
                    )

    def kill(self, run_id: str | None) -> None:
        """Mark a run that was interrupted."""
        if run_id is not None and not self._down:
            with self._kept("interrupt"):
                self.client.set_terminated(run_id, "KILLED")

    def finish_session(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        counts: Mapping[str, int],
        status: str,
        *,
        further: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write the summary table to the session run and end it.

        Args:
            table: The table as Markdown.
            rows: The same as records.
            counts: Cases by verdict.
            status: ``FINISHED`` or ``KILLED``.
            further: More files by name, such as a ranking.
        """
        if self.session_run is None or self._down:
            return
        run_id = self.session_run
        files = {
            "summary.md": table.encode(),
            "summary.json": (json.dumps(list(rows), indent=1) + "\n").encode(),
            **(further or {}),
        }
        if status == "KILLED":
            self._kill_open()
        with self._kept("session summary"):
            values = {f"cases_{key.replace(' ', '_')}": float(v) for key, v in counts.items()}
            self.client.log_batch(run_id, metrics=metrics(values, step=0))
            with tempfile.TemporaryDirectory() as folder:
                write_files(Path(folder), files)
                self.client.log_artifacts(run_id, folder)
            self.client.set_terminated(run_id, status)

    def _kill_open(self) -> None:
        """End what an interrupt left running: it may come before a new run's id is known here."""
        with self._kept("interrupted runs"):
            found = self.client.search_runs(
                list(self._experiments.values()),
                filter_string=(
                    f"tags.`bob.session` = '{self.session}' and attributes.status = 'RUNNING'"
                ),
            )
            for run in found:
                if run.info.run_id != self.session_run:
                    self.client.set_terminated(run.info.run_id, "KILLED")

    def page(self, task: str) -> str:
        """Where MLflow's pages compare the runs of a task: a path behind the server's address."""
        experiment = self._experiments.get(f"bob/{self.scale}/{task}", "")
        query = "workflowType=machine_learning&compareRunsMode=CHART"
        return f"/#/experiments/{experiment}/runs?{query}"

    def _experiment(self, task: str) -> str:
        name = f"bob/{self.scale}/{task}"
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            self._experiments[name] = found.experiment_id if found else self._create(name)
        return self._experiments[name]

    def _create(self, name: str) -> str:
        folder = self.store.artifacts
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
        if not self.store.uri.startswith("sqlite:///"):
            yield
            return
        with FileLock(self.store.uri.removeprefix("sqlite:///") + ".lock", timeout=300):
            yield

    def _common_tags(self) -> dict[str, str]:
        from bob import __version__

        tags = {
            "bob.session": self.session,
            "bob.scale": self.scale,
            "bob.version": __version__,
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": self.root.name,
        }
        with suppress(OSError, KeyError):  # an account without a name, as in some containers
            tags["mlflow.user"] = getpass.getuser()
        if self._git is not None:
            tags["mlflow.source.git.commit"] = self._git.commit
            tags["bob.git_dirty"] = str(self._git.dirty).lower()
        return tags

    @contextmanager
    def _kept(self, what: str) -> Iterator[None]:
        with interrupts.held():
            try:
                yield
                self._failures = 0
            except Exception as error:
                text = " ".join(str(error).split())
                self.problems.append(f"{what}: {type(error).__name__}: {text[:200]}")
                self._failures += 1

    @property
    def _down(self) -> bool:
        """Whether to stop asking a store that failed twice in a row, each time after retries."""
        return self._failures >= 2

    def _keep(self, result: Result, files: Mapping[str, bytes]) -> None:
        case = result.case
        folder = self.store.unsent / f"{case.task}-{file_name(case.name)}-s{case.seed}-{case.id}"
        with self._kept(f"keeping results of {case.name}"):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            write_files(folder, files)
            self.problems.append(f"results of {case.name} seed {case.seed} are kept in {folder}")
