"""Folders of the user's. Standard library alone, so that a plan can ask."""

from __future__ import annotations

import os
from pathlib import Path

FEATURES = "BOB_FEATURES"
"""Variable that names the folder of the feature store."""


def cache_folder(name: str) -> Path:
    """A folder of this name in the user's cache: ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / name


def own_folder(variable: str, name: str) -> Path:
    """The folder that an environment variable names, else ``bob/<name>`` in the user's cache."""
    named = os.environ.get(variable)
    return Path(named).expanduser() if named else cache_folder("bob") / name


def features_root() -> Path:
    """``$BOB_FEATURES``, else ``bob/features`` in the user's cache folder."""
    return own_folder(FEATURES, "features")


def calibration_root() -> Path:
    """``$BOB_CALIBRATION``, else ``bob/calibration`` in the user's cache folder."""
    return own_folder("BOB_CALIBRATION", "calibration")


def micro_batches_root() -> Path:
    """``$BOB_MICRO_BATCHES``, else ``bob/micro-batches`` in the user's cache folder."""
    return own_folder("BOB_MICRO_BATCHES", "micro-batches")


def digests_file() -> Path:
    """Where digests of files are kept: ``bob/digests.sqlite`` in the user's cache folder."""
    return cache_folder("bob") / "digests.sqlite"


def data_root() -> Path:
    """``$BOB_DATA``, else ``bob/data`` in the user's cache folder."""
    return own_folder("BOB_DATA", "data")


def scenes_root() -> Path:
    """``$BOB_SCENES``, else ``bob/scenes`` in the user's cache folder."""
    return own_folder("BOB_SCENES", "scenes")


def hub_root() -> Path:
    """Torch's hub cache, as ``torch.hub`` finds it: ``$TORCH_HOME/hub``."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else cache_folder("torch")) / "hub"
