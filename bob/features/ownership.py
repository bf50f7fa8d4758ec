"""What in a folder belongs to the feature store; nothing else is ever removed.

A store may be put anywhere, a home folder too, so a name alone says little. An entry is a folder of
40 hexadecimal digits below one of its first two, holds a manifest or shards, and nothing but them.
Links are never followed. Nothing is removed from a folder without the store's mark.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bob.shared_folders import make_folder, share

KEY_DIGITS = 40
MANIFEST = "manifest.json"
MARK = ".bob-features"
SCRATCH = "tmp"
ASIDE = "set-aside"

_TEXT = "bob feature store\nEntries below this folder are kept and removed by `bob features`.\n"
_KEY = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}")
_FILE = re.compile(r"manifest\.json|shard-\d{5,}\.npy")
_LEFT = re.compile(rf"([0-9a-f]{{{KEY_DIGITS}}})-\w{{8}}")


def is_marked(root: Path) -> bool:
    """Whether a folder was marked as a feature store."""
    path = root / MARK
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as stream:
            return stream.read(64).startswith(_TEXT.splitlines()[0].encode())
    except OSError:
        return False


def mark(root: Path) -> None:
    """Mark an existing folder as a feature store.

    Raises:
        OSError: It cannot be written, or something else has the mark's name.
    """
    if is_marked(root):
        return
    handle, name = tempfile.mkstemp(prefix=MARK, dir=root)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(_TEXT)
        share(Path(name), root)
        os.replace(name, root / MARK)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def entry_folders(root: Path) -> Iterator[Path]:
    """Every folder that is an entry, whole or damaged."""
    for parent in _subfolders(root):
        if len(parent.name) == 2:
            yield from filter(is_entry, _subfolders(parent))


def is_entry(folder: Path) -> bool:
    """Whether a folder is where entries are, and holds files of an entry and nothing else."""
    name, parent = folder.name, folder.parent
    placed = _KEY.fullmatch(name) is not None and parent.name == name[:2] and _is_folder(parent)
    return placed and _is_folder(folder) and bool(_own_files(folder))


def left_behind(root: Path, key: str = "") -> Iterator[tuple[str, Path]]:
    """Key and folder of each half-written entry of a key, or of all."""
    for folder in _subfolders(root / SCRATCH):
        found = _LEFT.fullmatch(folder.name)
        if found and key in ("", found[1]):
            yield found[1], folder


def remove(folder: Path) -> bool:
    """Remove an entry's files, and the folder if nothing else is in it.

    What was being removed when a process died lies one folder deeper and is removed too.

    Returns:
        Whether the folder is gone.
    """
    for inner in (folder / "entry", folder):
        for path in _own_files(inner) or ():
            with suppress(FileNotFoundError):
                path.unlink()
        with suppress(OSError):
            inner.rmdir()
    return not os.path.lexists(folder)


def set_aside(path: Path, root: Path) -> Path:
    """Move what stands where an entry belongs into a folder of the store's.

    Returns:
        Where it is now.
    """
    make_folder(root / ASIDE, root)
    place = Path(tempfile.mkdtemp(prefix=f"{path.name}-", dir=root / ASIDE)) / path.name
    os.replace(path, place)
    return place


def _own_files(folder: Path) -> list[Path]:
    """The files of an entry; none if the folder holds anything else, or cannot be read."""
    try:
        with os.scandir(folder) as found:
            children = list(found)
        if all(_FILE.fullmatch(c.name) and c.is_file(follow_symlinks=False) for c in children):
            return [folder / child.name for child in children]
    except OSError:
        return []
    return []


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(folder / e.name for e in found if e.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
