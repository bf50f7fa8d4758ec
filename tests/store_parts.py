"""What a store and a project's ledger hold, and a real server."""

from __future__ import annotations

from typing import Any

import pytest

from bob.ledger import Ledger


def runs_of(uri: str) -> list[Any]:
    """Every run of a case that the store shows, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_experiments(filter_string="name LIKE 'bob/%'")
    runs = client.search_runs([experiment.experiment_id for experiment in found])
    cases = [run for run in runs if run.data.tags.get("bob.level") == "case"]
    return sorted(cases, key=lambda run: run.info.start_time)


def ledger_of(project: pytest.Pytester) -> Ledger:
    return Ledger(project.path / "mlruns" / "ledger")
