"""The regularisation path of a probe as a table and a picture."""

from __future__ import annotations

from bob.artifacts.plots import regularisation_path
from bob.case import Case, Content
from bob.heads.probe import Probe
from bob.tabular import csv_bytes


def path_files(case: Case, probe: Probe) -> dict[str, Content]:
    """The path as a table and a picture; nothing where there was no choice."""
    if not probe.path:
        return {}
    rows = [(f"{point.c:g}", point.top1, point.loss, point.expected_loss) for point in probe.path]
    columns = ("c", "holdout_top1", "holdout_loss", "expected_loss")
    return {
        "regularisation_path.csv": lambda: csv_bytes(columns, rows),
        "regularisation_path.png": lambda: regularisation_path(case, probe.path, probe.c),
    }
