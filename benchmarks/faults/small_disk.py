"""A small disk of its own for a folder, and how it is filled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOT_MADE = "only an administrator on Linux can make a small disk: not tried"


@contextmanager
def small_disk(folder: Path, *, mebibytes: int = 6) -> Iterator[bool]:
    """Mount a small disk over a folder for the length of the block.

    Args:
        folder: An empty one.
        mebibytes: What it takes.

    Yields:
        Whether it could be mounted.
    """
    size = f"size={mebibytes}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    made = (
        sys.platform == "linux"
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path, *, leave: int = 0) -> None:
    """Write a file until its disk is full.

    Args:
        path: The file.
        leave: Bytes that stay free; none by default, to the last block.
    """
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))
