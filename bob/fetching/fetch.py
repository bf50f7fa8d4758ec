"""A plan of files, fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bob.catalog.data_root import data_root
from bob.errors import BobError
from bob.fetching.answers import published_md5
from bob.fetching.archives import ArchiveRefused, place
from bob.fetching.http import Told, download
from bob.fetching.lock import locked
from bob.fetching.partial import Partial
from bob.fetching.plan import Plan, Wanted, make_state_folder, state_folder
from bob.hashing import digest_of
from bob.shared_folders import make_folder
from bob.sizes import show_size


def fetch(plan: Plan, *, say: Callable[[str], None], told: Told) -> None:
    """Fetch what a dataset lacks into the data root.

    What is there already is left as it is; what broke off goes on from where it was. What is not
    as published, and an archive that is damaged or hostile, is thrown away.

    Args:
        plan: What is missing.
        say: Told a line for each file.
        told: Told how far a download is.

    Raises:
        BobError: A file cannot be had, is not what it should be, or cannot be written.
    """
    for wanted in plan.files:
        _one(wanted, say, told)
    for wanted in plan.files:
        if not wanted.there():
            ways = ", ".join(" or ".join(map(str, paths)) for paths in wanted.gives)
            raise BobError(
                f"{wanted.name} holds no {ways}: its owner has laid it out anew. Put it there by "
                "hand, and report the dataset."
            )


def _one(wanted: Wanted, say: Callable[[str], None], told: Told) -> None:
    downloads = state_folder() / "downloads"
    # archives of several sets share a name
    file = downloads / f"{digest_of(wanted.urls[0], length=8)}-{wanted.name}"
    try:
        make_state_folder("downloads")
        with locked(Path(f"{file}.lock"), say):
            if wanted.there():
                say(f"{wanted.name} is there by now")
                return
            if not file.exists():
                say(f"fetching {wanted.name} from {wanted.urls[0]}")
                download(_checkable(wanted), file, told)
            say(f"unpacking {wanted.name} into {wanted.to}")
            _unpack(wanted, file)
            file.unlink()
    except OSError as error:
        raise cannot_write(downloads, error, have=Partial(file).size) from None


def _checkable(wanted: Wanted) -> Wanted:
    """A file with the digest that its publisher keeps in a file of its own."""
    if wanted.md5_url and not wanted.digested:
        return replace(wanted, md5=published_md5(wanted.md5_url))
    return wanted


def _unpack(wanted: Wanted, file: Path) -> None:
    work = make_state_folder("unpacking") / file.name
    if wanted.part:
        make_folder(wanted.receipt.parent, data_root())
    try:
        place(file, wanted.name, wanted.to, work=work, flatten=wanted.flatten)
    except ArchiveRefused:
        file.unlink()
        raise
    if wanted.part:
        wanted.receipt.touch()


def check_room(size: int) -> None:
    """Refuse to begin where the disk cannot hold what is to come.

    Raises:
        BobError: It cannot, or the data root cannot be written to.
    """
    try:
        folder = make_state_folder()
    except OSError as error:
        raise cannot_write(state_folder(), error) from None
    free = shutil.disk_usage(folder).free
    if size > free:
        raise BobError(
            f"{show_size(size)} are to be fetched and the disk of {folder} has "
            f"{show_size(free)} left. Make room or name another data root in BOB_DATA."
        )


def cannot_write(folder: Path, error: OSError, *, have: int = 0) -> BobError:
    """The error of a data root that is full or read-only.

    Args:
        folder: What was to be written to.
        error: What the system says.
        have: Bytes of a file that had come by then; they are kept.
    """
    kept = f"; {have:,} bytes of it are kept, the same command goes on from there" if have else ""
    return BobError(
        f"Cannot write to {folder} ({error.strerror or error}){kept}. Make room, or name a data "
        "root that you may write to in BOB_DATA."
    )
