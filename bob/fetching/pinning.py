"""The list of a dataset's files: counted, digested, and pinned the first time it is verified."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bob.catalog import DatasetEntry
from bob.catalog.data_root import data_root, located, missing
from bob.errors import BobError, some
from bob.fetching.plan import make_state_folder, planned, state_folder
from bob.file_digests import UNREADABLE, digests_of_files
from bob.hashing import own_file_name
from bob.shared_folders import write_shared


@dataclass(frozen=True)
class Checked:
    """What lies there of a dataset.

    Attributes:
        files: Number of files.
        bytes: Their sizes, added up.
        sha256: Digest of their names and contents.
        pinned: Whether an earlier check had the same digest; else it is written down now.
    """

    files: int
    bytes: int
    sha256: str
    pinned: bool


def pin_file(entry: DatasetEntry) -> Path:
    """Where the digest of a dataset's list of files is written down."""
    return state_folder() / "pins" / f"{own_file_name(entry.key)}.json"


def files_list(pin: Path) -> Path:
    """Beside a pin: each file's name and the start of its digest, so that a change can be named."""
    return pin.with_suffix(".files.gz")


def verify(entry: DatasetEntry, *, renew: bool = False) -> Checked:
    """Check the files of a dataset against what was written down, or write it down.

    Args:
        entry: The dataset.
        renew: Whether to write down what is there although it differs.

    Raises:
        BobError: A part is missing or cannot be read, nothing needs to be there, or files have
            changed, are gone or have been added.
    """
    if not entry.needs:
        raise BobError(f"{entry.key} keeps no files under the data root; its digest is its own.")
    lacks = missing(entry) or [wanted.name for wanted in planned(entry).files]
    if lacks:
        raise BobError(
            f"{entry.key} is not all there: {some(lacks)} is missing. Nothing was pinned. "
            f"{obtained(entry)}"
        )
    files = sorted({path for need in entry.needs for path in _files(located(need))})
    digest, size, listed = hashlib.sha256(), 0, {}
    for path, sha256 in zip(files, digests_of_files(files), strict=True):
        if sha256 == UNREADABLE:
            raise BobError(f"{entry.key}: cannot read {path}. Nothing was pinned.")
        size += path.stat().st_size
        root = data_root()  # a package of the system may keep files elsewhere
        name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        digest.update(f"{name}\0{sha256}\0".encode("utf-8", "surrogateescape"))
        listed[name] = sha256[:16]
    found = {"files": len(files), "bytes": size, "sha256": digest.hexdigest()}
    pin = pin_file(entry)
    earlier = _read(pin)
    if earlier and earlier != found and not renew:
        raise BobError(
            f"{entry.key} has changed since it was pinned in {pin}: {len(files):,} files of "
            f"{size:,} bytes, where there were {earlier.get('files'):,} of "
            f"{earlier.get('bytes'):,}{_differences(_listed(pin), listed)}. Remove what has "
            f"changed and `bob datasets get {entry.key}`, or delete that file to pin what is there."
        )
    if earlier != found:
        try:
            make_state_folder("pins")
            write_shared(files_list(pin), _packed(listed))  # looked at only where there is a pin
            write_shared(pin, (json.dumps(found, indent=1) + "\n").encode())
        except OSError as error:
            raise BobError(f"Cannot write {pin} ({error.strerror}).") from None
    return Checked(len(files), size, digest.hexdigest(), pinned=earlier == found)


def obtained(entry: DatasetEntry) -> str:
    """How to get a dataset."""
    offered = entry.download is not None and bool(entry.download.files)
    by_hand = f" {entry.obtain}" if entry.obtain else ""
    return f"`bob datasets get {entry.key}`." if offered else by_hand.strip()


def _packed(listed: dict[str, str]) -> bytes:
    text = "".join(f"{start} {name}\0" for name, start in listed.items())
    return gzip.compress(text.encode("utf-8", "surrogateescape"), mtime=0)


def _listed(pin: Path) -> dict[str, str]:
    """Starts of the pinned files' digests by name; empty where the list cannot be read."""
    try:
        text = gzip.decompress(files_list(pin).read_bytes()).decode("utf-8", "surrogateescape")
    except (OSError, EOFError, ValueError, zlib.error):
        return {}
    return {line[17:]: line[:16] for line in text.split("\0") if line}


def _differences(earlier: dict[str, str], listed: dict[str, str]) -> str:
    """What the message says of files that changed, are gone, or have been added."""
    if not earlier:
        return ""
    kinds = {
        "changed": [name for name in earlier if listed.get(name, earlier[name]) != earlier[name]],
        "gone": [name for name in earlier if name not in listed],
        "added": [name for name in listed if name not in earlier],
    }
    told = "; ".join(f"{kind}: {some(names)}" for kind, names in kinds.items() if names)
    return f" ({told})" if told else ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _read(pin: Path) -> dict[str, object]:
    try:
        found = json.loads(pin.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BobError(f"Cannot read {pin} ({error}). Delete it to pin what is there.") from None
    if not isinstance(found, dict) or set(found) != {"files", "bytes", "sha256"}:
        raise BobError(f"{pin} is no pin. Delete it to pin what is there.")
    return found
