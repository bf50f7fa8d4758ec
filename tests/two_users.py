"""A second user of the machine, and a folder that both can reach."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECOND = 65534
"""Its number: nobody's."""
needs_second_user = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="needs a second user"
)


@contextmanager
def second_user() -> Iterator[None]:
    """Be the second user."""
    os.seteuid(SECOND)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user may read: every folder above it is open too."""
    folder = Path(tempfile.mkdtemp(prefix="bob-two-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
