"""A plan of files, fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from bob.errors import BobError
from bob.fetching.archives import place
from bob.fetching.http import Told, download
from bob.fetching.lock import cannot_write, locked
from bob.fetching.plan import Plan, Wanted, state_folder
from bob.hashing import digest_of
from bob.sizes import show_size


def fetch(plan: Plan, *, say: Callable[[str], None], told: Told) -> None:
    """Fetch what a dataset lacks into the data root.

    What is there already is left as it is; what broke off goes on from where it was.

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
    with locked(Path(f"{file}.lock"), say):
        if wanted.there():
            say(f"{wanted.name} is there by now")
            return
        if not file.exists():
            say(f"fetching {wanted.name} from {wanted.urls[0]}")
            download(wanted, file, told)
        say(f"unpacking {wanted.name} into {wanted.to}")
        if wanted.part:
            wanted.receipt.parent.mkdir(parents=True, exist_ok=True)
        place(file, wanted.name, wanted.to, work=state_folder(), flatten=wanted.flatten)
        if wanted.part:
            wanted.receipt.touch()
        file.unlink()


def check_room(size: int) -> None:
    """Refuse to begin where the disk cannot hold what is to come.

    Raises:
        BobError: It cannot, or the data root cannot be written to.
    """
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    free = shutil.disk_usage(folder).free
    if size > free:
        raise BobError(
            f"{show_size(size)} are to be fetched and the disk of {folder} has "
            f"{show_size(free)} left. Make room or name another data root in BOB_DATA."
        )
