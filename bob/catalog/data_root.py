"""Where datasets lie, and which are there. Standard library alone, so that a plan can ask."""

from __future__ import annotations

import os
from pathlib import Path

from bob.catalog.schema import DatasetEntry


def data_root() -> Path:
    """``$BOB_DATA``, else ``bob/data`` in the user's cache folder."""
    if os.environ.get("BOB_DATA"):
        return Path(os.environ["BOB_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "bob" / "data"


def missing(entry: DatasetEntry) -> list[str]:
    """What of the files and folders that a dataset needs is not under the data root."""
    root = data_root()
    return [
        need.replace("|", " or ")
        for need in entry.needs
        if not any((root / one).exists() for one in need.split("|"))
    ]
