"""Folders that several users write to: what bob makes there has the permissions of the folder.

With the usual umask a lock or a folder that one of them made would keep the others out.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock


def share(made: Path | int, root: Path) -> None:
    """Give a file or folder permissions and group of the folder that is shared.

    Args:
        made: A path, or where the system allows it the handle of an open file. Another user's is
            left as it is.
        root: The shared folder.

    Raises:
        OSError: ``made`` or ``root`` is not there.
    """
    wanted, found = os.stat(root), os.stat(made)
    mode = stat.S_IMODE(wanted.st_mode)
    with suppress(PermissionError):
        if wanted.st_gid != found.st_gid and hasattr(os, "chown"):
            os.chown(made, -1, wanted.st_gid)
    # behind the group: whoever is not of it loses the bit that hands it down
    with suppress(PermissionError):
        folder = stat.S_ISDIR(found.st_mode)
        os.chmod(made, mode & 0o2777 | 0o700 if folder else mode & 0o666 | 0o600)


def make_folder(path: Path, root: Path) -> None:
    """Make a folder, and those above it, that everybody may use who may use ``root``.

    Args:
        path: At or below ``root``; those that are there are left as they are.
        root: The shared folder; made where it is missing, with the usual permissions.

    Raises:
        OSError: One cannot be made, or something else has its name.
        ValueError: ``path`` is not below ``root``.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root
    for name in path.relative_to(root).parts:
        folder = folder / name
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            share(folder, root)


def write_shared(path: Path, content: bytes) -> None:
    """Replace a file in one step by one that everybody may use who may use its folder.

    Raises:
        OSError: It cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        share(Path(name), path.parent)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def shared_lock(path: Path) -> FileLock:
    """A lock that everybody can hold who may write to its folder, which is there.

    Raises:
        OSError: The folder cannot be looked at or written to.
    """
    with suppress(FileExistsError):  # FileLock's own would be of the maker's group
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        share(path, path.parent)
    return FileLock(path, mode=stat.S_IMODE(os.stat(path.parent).st_mode) & 0o666 | 0o600)
