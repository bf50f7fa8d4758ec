"""What of a dataset is to be fetched, and from where."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bob.catalog import DatasetEntry
from bob.catalog.data_root import data_root, holds
from bob.catalog.download import RemoteFile
from bob.errors import BobError
from bob.fetching.source import Source
from bob.fetching.torchvision_files import published
from bob.hashing import file_name, own_file_name
from bob.shared_folders import make_folder, share

MIRROR = "BOB_MIRROR"
"""Variable with an address that stands before ``HOST/PATH`` of every owner's address."""


@dataclass(frozen=True, kw_only=True)
class Wanted(Source):
    """One file to fetch, and where it belongs.

    Attributes:
        to: Folder that it goes into.
        gives: What is there afterwards; of each a few paths, of which any will do.
        flatten: Whether the archive's folders are left out.
        part: Whether it is one of several that give the same path.
    """

    to: Path
    gives: tuple[tuple[Path, ...], ...]
    flatten: bool = False
    part: bool = False

    @property
    def name(self) -> str:
        """Its name as published."""
        return file_name(unquote(urlsplit(self.urls[0]).path).rsplit("/", 1)[-1]) or "download"

    @property
    def receipt(self) -> Path:
        """A file that says that one of several parts has been unpacked."""
        folder = own_file_name(self.to.relative_to(data_root()).as_posix())
        return (
            state_folder()
            / "parts"
            / folder
            / own_file_name(urlsplit(self.urls[0]).path.strip("/"))
        )

    def there(self) -> bool:
        """Whether what it gives is there already; an empty folder is not."""
        # without the folder of receipts somebody has put all parts there by hand
        if self.part and self.receipt.parent.exists() and not self.receipt.exists():
            return False
        return all(any(map(holds, ways)) for ways in self.gives)


@dataclass(frozen=True)
class Plan:
    """What a dataset lacks.

    Attributes:
        entry: The dataset.
        files: What is fetched.
        by_hand: Why the rest cannot be, and what to do; empty where there is no rest.
    """

    entry: DatasetEntry
    files: tuple[Wanted, ...]
    by_hand: str


def state_folder() -> Path:
    """``.bob`` in the data root: what is kept besides data."""
    return data_root() / ".bob"


def make_state_folder(*below: str) -> Path:
    """Make a folder in ``state_folder()`` for everybody who may write to the data root.

    Raises:
        OSError: It cannot be made.
    """
    root, folder = data_root(), state_folder()
    make_folder(folder.joinpath(*below), root)
    for name in ("", *below):  # an older version made them for one user alone
        folder = folder / name
        if not folder.is_symlink():
            share(folder, root)
    return folder


def planned(entry: DatasetEntry) -> Plan:
    """What is missing of a dataset.

    Raises:
        BobError: An address cannot be told.
    """
    if "path" in entry.options:
        raise BobError(f"{entry.key} lies in a folder of your own; there is nothing to fetch.")
    offered = entry.download
    files = tuple(wanted for file in (offered.files if offered else ()) for wanted in _parts(file))
    by_hand = ""
    left = _left(entry, files) if not files or (offered and offered.form) else []
    if left:
        why = offered.form if offered and offered.form else "Its owner offers no plain address."
        lacks = ", ".join(need.replace("|", " or ") for need in left)
        by_hand = (
            f"{entry.key}: {why} {entry.obtain} Still missing under the data root {data_root()}: "
            f"{lacks}."
        )
    return Plan(entry, tuple(wanted for wanted in files if not wanted.there()), by_hand)


def _left(entry: DatasetEntry, files: Iterable[Wanted]) -> list[str]:
    """What is missing and no file gives."""
    promised = {way for wanted in files for ways in wanted.gives for way in ways}
    return [
        need
        for need in entry.needs
        if not any(
            holds(data_root() / way) or data_root() / way in promised for way in need.split("|")
        )
    ]


def _parts(file: RemoteFile) -> Iterable[Wanted]:
    urls, md5 = file.urls, file.md5
    if file.torchvision:
        url, known = published(file.torchvision)
        urls, md5 = urls or (url,), md5 or known
    root = data_root()
    for number in range(file.count):
        own = [url.replace("{}", f"{number:03d}") for url in urls]
        yield Wanted(
            urls=tuple(map(mirrored, own)),
            md5=md5,
            sha256=file.sha256,
            size=file.bytes,
            md5_url=mirrored(file.md5_url.replace("{}", f"{number:03d}")) if file.md5_url else "",
            to=root / file.to,
            gives=tuple(tuple(root / way for way in give.split("|")) for give in file.gives),
            flatten=file.flatten,
            part=file.count > 1 or file.flatten,
        )


def mirrored(url: str) -> str:
    """An owner's address, or where ``BOB_MIRROR`` keeps its copy."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if not mirror:
        return url
    if not mirror.startswith(("http://", "https://")):
        raise BobError(f"{MIRROR} {mirror!r}: expected an address, such as https://mirror.example.")
    return f"{mirror}/{url.split('://', 1)[1]}"
