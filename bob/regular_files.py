"""Opening files that data name: regular ones alone. A pipe waits and a device never ends."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> BufferedReader:
    """A regular file, or a link to one, opened to be read as bytes.

    Raises:
        OSError: There is none, it cannot be read, or it is a folder, pipe, socket or device.
    """
    _check(os.stat(path), path)
    # what takes its place meanwhile is not waited for either
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check(os.fstat(handle), path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def inside(root: Path, name: str) -> Path:
    """The path of a file that data name relative to a folder.

    Links within the folder are whoever's who made it, and may lead anywhere; names may not.

    Raises:
        OSError: The name is absolute, leads out of the folder, or is none.
    """
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir or "\0" in name:
        raise OSError(errno.EPERM, f"the name leads out of {root}", name)
    return root / path


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; errors as of ``open_regular``."""
    with open_regular(path) as stream:
        return stream.read()


def _check(found: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "something else")
    raise OSError(errno.EINVAL, f"it is {kind} and no regular file", str(path))


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
