"""Folders that several users write to: what bob makes there has the permissions of the folder.

With the usual umask a lock or a folder that one of them made would keep the others out.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from filelock import FileLock


def file_mode(folder: Path) -> int:
    """Permissions of a file in a folder: whoever may write to the folder may write to the file.

    Raises:
        OSError: The folder is not there or cannot be looked at.
    """
    return stat.S_IMODE(folder.stat().st_mode) & 0o666 | 0o600


def share(path: Path, root: Path) -> None:
    """Give a new file or folder the permissions of the folder that is shared.

    Args:
        path: What was made, whatever the umask was; another user's is left as it is.
        root: The shared folder.
    """
    with suppress(PermissionError):
        if path.is_dir():
            path.chmod(stat.S_IMODE(root.stat().st_mode) & 0o2777 | 0o700)
        else:
            path.chmod(file_mode(root))


def make_folder(path: Path, root: Path) -> None:
    """Make a folder, and those above it, that everybody may use who may use ``root``.

    Args:
        path: At or below ``root``; those that are there are left as they are.
        root: The shared folder; made where it is missing, with the usual permissions.

    Raises:
        OSError: One cannot be made, or something else has its name.
    """
    if path == root:
        root.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        make_folder(path.parent, root)
        path.mkdir(exist_ok=True)
        share(path, root)


def shared_lock(path: Path) -> FileLock:
    """A lock that everybody can hold who may write to its folder, which is there.

    Raises:
        OSError: The folder cannot be looked at.
    """
    return FileLock(path, mode=file_mode(path.parent))
