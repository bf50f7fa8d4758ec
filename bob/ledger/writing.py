"""Files that are on the disk, whole, when their function returns."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bob.artifacts.files import packed
from bob.hashing import digest_of
from bob.ledger.plain import case_to_plain, jsonable, result_arrays, result_to_plain
from bob.ledger.records import SCHEMA, Recorded
from bob.regular_files import sync_folder


def write_entry(folder: Path, recorded: Recorded, *, stays: Callable[[], bool]) -> None:
    """Write a result's folder; one of the same name is replaced.

    Args:
        folder: Its place.
        recorded: The result.
        stays: Asked where one is there: whether it is left as it is.

    Raises:
        OSError: The disk is full or the folder above is not writable; nothing half-written stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        _fill(made, recorded)
        os.chmod(made, 0o755)
        while not _renamed(made, folder):
            if stays():
                shutil.rmtree(made, ignore_errors=True)
                return
            _put_away(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _renamed(made: Path, folder: Path) -> bool:
    """Rename a folder, unless one of that name is there."""
    try:
        os.rename(made, folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def _put_away(folder: Path) -> None:
    """Remove a folder, in one step for everybody who looks; quiet where another was faster."""
    away = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        with suppress(FileNotFoundError):
            os.rename(folder, away / folder.name)
    finally:
        shutil.rmtree(away, ignore_errors=True)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write plain data as JSON; a file of the same name is replaced in one step.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    content = text_of(record)
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _fill(folder: Path, recorded: Recorded) -> None:
    files = {f"files/{name}": content for name, content in recorded.result.files.items()}
    arrays = result_arrays(recorded.result)
    if arrays:
        files["arrays.npz"] = packed(arrays)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _write_new(folder / name, content)
    _write_new(folder / "result.json", text_of(entry_record(recorded, files)))
    sync_folder(folder)


def entry_record(recorded: Recorded, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A result as the plain data of ``result.json``.

    Args:
        recorded: The result.
        files: What lies beside it, by name.
    """
    record = {
        "schema": SCHEMA,
        "entry": recorded.entry,
        "session": recorded.session,
        "role": recorded.role,
        "time": recorded.time,
        "version": recorded.version,
        "case": case_to_plain(recorded.result.case),
        "result": result_to_plain(recorded.result),
        "curve": [[epoch, jsonable(values)] for epoch, values in recorded.curve],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return {**record, "sha256": digest_of(json.loads(text_of(record)), length=64)}


def text_of(record: Mapping[str, Any]) -> bytes:
    """Plain data as the ledger's files have it."""
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


def _write_new(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
