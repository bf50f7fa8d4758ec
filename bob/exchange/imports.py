"""Where what was imported lies, and what ``bob import`` does."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bob.catalog import Catalog
from bob.errors import BobError, did_you_mean, no_file
from bob.exchange.bundle import (
    OUTCOMES_FILE,
    SCORES_FILE,
    Bundle,
    bundle_of,
    is_bundle,
    read_bundle,
    write_bundle,
)
from bob.exchange.published import Taken, read_csv, read_records
from bob.hashing import digest_of_file, file_name, own_file_name
from bob.regular_files import sync_folder

FOLDER = Path("mlruns") / "imported"
"""Under the working directory."""

PREFIX = "imported:"
"""What ``--from`` begins with."""

ORIGIN_FILE = "import.json"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import left.

    Attributes:
        folder: Where it lies.
        bundle: What was taken in.
        apart: Rows by what keeps them from every board, in words.
        new: Whether it was written; otherwise the same was there already.
    """

    folder: Path
    bundle: Bundle
    apart: dict[str, int]
    new: bool


def import_path(path: Path, *, name: str, catalog: Catalog, root: Path) -> Imported:
    """Read an export, or a table that others published, into the folder of imports.

    Args:
        path: Folder of an export, its ``scores.parquet``, a CSV file, or a file of VisBench.
        name: What it is called; made of the path where it is empty.
        catalog: By which published checkpoints are known.
        root: The project.

    Raises:
        BobError: The name is none, is taken by something else, or the file cannot be read.
    """
    source, taken = _read(path, catalog)
    folder = root / FOLDER / (_checked(name) if name else _named_by(source))
    if not folder.exists():
        _write(folder, source, taken)
        return Imported(folder=folder, bundle=taken.bundle, apart=taken.apart, new=True)
    with _beside(folder.parent) as made:
        _fill(made, source, taken)
        for file in (SCORES_FILE, OUTCOMES_FILE):
            if _digest(made / file) != _digest(folder / file):
                raise BobError(
                    f"{folder} holds another import. Give this one another name with --as, or "
                    "remove that folder."
                )
    return Imported(folder=folder, bundle=taken.bundle, apart=taken.apart, new=False)


def folder_of(source: str, root: Path) -> Path:
    """The folder that ``imported:NAME`` means.

    Raises:
        BobError: There is no such import.
    """
    name = source.removeprefix(PREFIX)
    folder = root / FOLDER / _checked(name)
    if not is_bundle(folder):
        known = [path.name for path in (root / FOLDER).glob("*") if is_bundle(path)]
        near = did_you_mean(name, known)
        raise BobError(
            f"--from {source}: nothing was imported under that name. {near} `bob import PATH --as "
            f"{name}` does it.".replace("  ", " ")
        )
    return folder


def _checked(name: str) -> str:
    if not name or name != file_name(name) or name.startswith("."):
        near = own_file_name(name).lstrip(".") or "results"
        raise BobError(
            f"{name!r} is no name of an import: write letters, digits and _ . = - only, no dot in "
            f"front, such as {near!r}."
        )
    return name


def _named_by(path: Path) -> str:
    return own_file_name(path.resolve().stem if path.is_file() else path.resolve().name).lstrip(".")


def _read(path: Path, catalog: Catalog) -> tuple[Path, Taken]:
    if path.name == SCORES_FILE and path.is_file():
        path = path.resolve().parent
    if path.is_dir():
        if not is_bundle(path):
            raise BobError(
                f"{path} is no export: it has no {SCORES_FILE}. A folder of a ledger needs no "
                f"import; --from {path} reads it."
            )
        return path, Taken(bundle=read_bundle(path))
    if not path.is_file():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        exports = [other.name for other in beside if is_bundle(other)]
        why = no_file(path, endings=(".csv", ".jsonl", ".parquet"), names=exports)
        raise BobError(f"Cannot import {path}: {why}")
    readers = {".csv": read_csv, ".jsonl": read_records}
    if path.suffix.lower() not in readers:
        raise BobError(
            f"{path} is neither a folder of `bob export` nor a file .csv or .jsonl; see "
            "docs/exchange.md."
        )
    return path, readers[path.suffix.lower()](path, catalog)


def _write(folder: Path, source: Path, taken: Taken) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder.parent) as made:
            _fill(made, source, taken)
            os.chmod(made, 0o755)
            os.rename(made, folder)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise BobError(f"{folder} was made meanwhile; import again.") from None
        raise BobError(f"Cannot write {folder} ({error.strerror or error}).") from None


@contextmanager
def _beside(parent: Path) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix=".importing-", dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(folder: Path, source: Path, taken: Taken) -> None:
    bundle = bundle_of(taken.bundle.scores, taken.bundle.units)
    write_bundle(folder, bundle)
    read = source / SCORES_FILE if source.is_dir() else source
    origin = {
        "path": str(source.resolve()), "sha256": digest_of_file(read), "rows": len(bundle.scores),
        "runs_with_outcomes": len(bundle.units), "apart": taken.apart,
    }  # fmt: skip
    text = json.dumps(origin, indent=2, ensure_ascii=True) + "\n"
    (folder / ORIGIN_FILE).write_text(text, encoding="utf-8")


def _digest(path: Path) -> str:
    return digest_of_file(path) if path.exists() else ""
