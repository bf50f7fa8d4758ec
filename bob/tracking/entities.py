"""A case and its values as MLflow's own records."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bob.case import Case, Trial


def case_tags(case: Case) -> dict[str, str]:
    """The axes a run is searched and compared by."""
    return {
        "bob.backbone": case.backbone.key,
        "bob.family": case.backbone.family,
        "bob.pretraining": case.backbone.pretraining,
        "bob.task": case.task,
        "bob.dataset": case.dataset.key,
        "bob.seed": str(case.seed),
        "bob.case": case.id,
        "bob.protocol": case.protocol,
        **({"bob.engine": case.engine} if case.engine else {}),
    }


def trial_tags(trial: Trial, parent: str) -> dict[str, str]:
    """What marks the run of a tried setting as one, under its case's run."""
    return {
        "mlflow.parentRunId": parent,
        "bob.role": "trial",
        "bob.chosen": str(trial.chosen).lower(),
        **({"bob.group": trial.group} if trial.group else {}),
        **({"bob.failure": trial.failure[:500]} if trial.failure else {}),
    }


def dataset_inputs(case: Case) -> list[Any]:
    """The case's dataset as an MLflow input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=case.dataset.key,
        digest=(case.dataset.sha256 or case.protocol)[:8],
        source_type="code",
        source=json.dumps(case.dataset.identity),
        profile=json.dumps(
            {"classes": case.dataset.classes, "test_images": case.dataset.test_size}
        ),
    )
    return [DatasetInput(dataset, [InputTag("mlflow.data.context", "train and test")])]


def metrics(values: Mapping[str, float], *, step: int) -> list[Any]:
    """Values of one step, for one batch."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, step) for key, value in values.items()]


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write each file into an existing folder."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
