"""Files ``.eval_results/*.yaml`` of the Hugging Face hub."""

from __future__ import annotations

import math
from collections.abc import Iterator

import yaml

from bob.exchange.contents import Asker, Contents
from bob.hashing import own_file_name


def eval_results(told: Contents, backbone: str, asker: Asker) -> Iterator[tuple[str, str]]:
    """Name and text of a file for every score whose setting is a benchmark of the hub.

    Args:
        told: What was measured.
        backbone: One of it that has cells.
        asker: Which benchmarks and tasks of the hub our settings are: nobody else knows.
    """
    for cell in told.cells[backbone]:
        row = cell.row
        hub = asker.benchmarks.get(row.setting)
        if hub is None or not hub.task or not row.is_score or not math.isfinite(cell.value):
            continue
        entry = {"dataset": {"id": hub.id, "task_id": hub.task}, "value": cell.value}
        if row.time:
            entry["date"] = row.time
        if asker.url:
            entry["source"] = {"url": asker.url}
        entry["notes"] = (
            f"{row.setting} {row.metric}, scale {row.scale}, {len(cell.by_seed)} seeds, protocol "
            f"{row.protocol}"
        )
        text = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True)
        yield f"{own_file_name(row.setting)}.yaml", text
