"""Folders of the user's. No large package is imported, so that a plan can ask."""

from __future__ import annotations

import os
from pathlib import Path

from bob.errors import BobError

FEATURES = "BOB_FEATURES"
"""Variable that names the folder of the feature store."""


def user_path(text: str) -> Path:
    """A path as it was written, with the home folder in the place of ``~`` and ``~user``.

    Raises:
        BobError: Nobody knows that user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.split(os.sep)[0].removeprefix("~")
        whose = f"of user {user!r}" if user else "of yours: HOME is not set"
        raise BobError(f"{text}: there is no home folder {whose}. Write the whole path.") from None


def real_path(text: str) -> Path:
    """``user_path``, absolute and behind all links; a link to itself stays what it is."""
    return Path(os.path.realpath(user_path(text)))


def cache_folder(name: str) -> Path:
    """A folder of this name in the user's cache: ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return user_path(named or "~/.cache") / name
    except BobError as error:
        if named:
            raise
        raise BobError(f"{error} Or name a cache folder in XDG_CACHE_HOME.") from None


def own_folder(variable: str, name: str) -> Path:
    """The folder that an environment variable names, else ``bob/<name>`` in the user's cache."""
    named = os.environ.get(variable)
    return user_path(named) if named else cache_folder("bob") / name


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
    return (user_path(home) if home else cache_folder("torch")) / "hub"
