"""What of the datasets lies under the data root. Standard library alone, so that a plan can ask."""

from __future__ import annotations

from pathlib import Path

from bob.catalog.schema import DatasetEntry
from bob.errors import BobError
from bob.places import data_root

__all__ = ["data_root", "holds", "located", "missing", "place"]


def place(ways: str) -> Path | None:
    """The first of ``a|b`` that is under the data root, if any is; an empty folder is not."""
    root = data_root()
    return next((root / way for way in ways.split("|") if holds(root / way)), None)


def holds(path: Path) -> bool:
    """Whether there is a file, or a folder with something in it."""
    if not path.is_dir():
        return path.exists()
    try:
        return any(path.iterdir())
    except OSError:  # its reader says why
        return True


def located(ways: str) -> Path:
    """The first of ``a|b`` that is under the data root.

    Raises:
        BobError: None is; ``kind`` is ``unavailable``.
    """
    path = place(ways)
    if path is None:
        raise BobError(
            f"{data_root()} holds no {ways.replace('|', ' or ')}. `bob datasets` tells what each "
            "dataset needs and how to get it; another data root is named in BOB_DATA.",
            kind="unavailable",
        )
    return path


def missing(entry: DatasetEntry) -> list[str]:
    """What of the files and folders that a dataset needs is not under the data root."""
    return [need.replace("|", " or ") for need in entry.needs if place(need) is None]
