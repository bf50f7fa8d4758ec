"""Where released weights are kept. Standard library alone, so that a plan can ask."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bob.hashing import own_file_name
from bob.places import hub_root


def cache_path(url: str) -> Path:
    """Where a released file is kept.

    The folders are those of its address: several publishers call theirs ``resnet50.pth``, and
    ``torch.hub`` would take one for the other.
    """
    parts = urlsplit(url)
    names = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")]
    return Path(hub_root(), "checkpoints", *map(own_file_name, (parts.netloc, *names)))


def package_path(name: str) -> Path | None:
    """Where a file of an installed package is; none where the package is not installed.

    Args:
        name: Package and path in it, with forward slashes. The package is not imported.
    """
    package, _, inside = name.partition("/")
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0], inside)
