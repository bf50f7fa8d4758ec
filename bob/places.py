"""Folders of the user's that a plan must know without importing what fills them."""

from __future__ import annotations

import os
from pathlib import Path


def features_root() -> Path:
    """``$BOB_FEATURES``, else ``bob/features`` in the user's cache folder."""
    if os.environ.get("BOB_FEATURES"):
        return Path(os.environ["BOB_FEATURES"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "bob" / "features"
