"""Where released weights are kept. Standard library alone, so that a plan can ask."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bob.hashing import file_name


def hub_folder() -> Path:
    """Torch's hub cache, as ``torch.hub`` finds it: ``$TORCH_HOME/hub``."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub"


def cache_path(url: str) -> Path:
    """Where a released file is kept.

    The folders are those of its address: several publishers call theirs ``resnet50.pth``, and
    ``torch.hub`` would take one for the other.
    """
    parts = urlsplit(url)
    names = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")]
    return Path(hub_folder(), "checkpoints", *map(file_name, (parts.netloc, *names)))
