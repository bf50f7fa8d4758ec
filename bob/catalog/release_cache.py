"""Where released weights are kept. Standard library alone, so that a plan can ask."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from bob.hashing import file_name
from bob.places import hub_root


def cache_path(url: str) -> Path:
    """Where a released file is kept.

    The folders are those of its address: several publishers call theirs ``resnet50.pth``, and
    ``torch.hub`` would take one for the other.
    """
    parts = urlsplit(url)
    names = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")]
    return Path(hub_root(), "checkpoints", *map(file_name, (parts.netloc, *names)))
