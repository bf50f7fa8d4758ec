"""Archives, unpacked so that nothing is written outside their folder and nothing is lost."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from bob.catalog.data_root import data_root
from bob.errors import BobError, some
from bob.hashing import digest_of_file
from bob.shared_folders import make_folder, share
from bob.sizes import show_size

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SHORT = (
    EOFError, OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip
"""What the standard library raises of an archive that is damaged, locked or of an odd kind."""
_FILTER_ERROR: tuple[type[Exception], ...] = (
    (tarfile.FilterError,) if hasattr(tarfile, "FilterError") else ()
)
"""Of members that lead outside; Python has it since 3.11.4."""
_BOMB = 100
"""Times its own size an archive of images never unpacks to."""
_BOMB_FROM = 1 << 28
"""Bytes from which on that is asked; lists of labels shrink to very little."""
_BLOCK = 1 << 20


class ArchiveRefused(BobError):
    """An archive that is damaged or hostile: it is of no use to anybody."""


def place(file: Path, name: str, to: Path, *, work: Path, flatten: bool = False) -> None:
    """Put a downloaded file where it belongs: an archive's content, or the file itself.

    It is unpacked beside the data and moved when all of it is there.

    Args:
        file: What was downloaded; it is left as it is.
        name: As published; its ending says what it is.
        to: Folder that it goes into.
        work: Folder of this archive alone, on the same disk, for what is half unpacked; what a
            process that was killed left there is deleted.
        flatten: Whether files go side by side without the archive's folders.

    Raises:
        ArchiveRefused: The archive is damaged, would write outside its folder, or unpacks to far
            more than a dataset does.
        BobError: The disk cannot hold it, a file is there already with other content, or what
            another user left cannot be removed.
        OSError: ``work`` cannot be made.
    """
    shutil.rmtree(work, ignore_errors=True)
    if os.path.lexists(work):
        raise BobError(
            f"Cannot remove {work}, which a process left there that was ended. Remove it, or if it "
            "is another user's ask them to, and give the same command again."
        )
    fresh = work / "content"
    fresh.mkdir(parents=True)
    try:
        try:
            _unpack(file, name.lower(), name, fresh)
        except _SHORT as error:
            if isinstance(error, _FILTER_ERROR):
                raise _outside(name, str(error)) from None
            if isinstance(error, OSError) and error.errno:  # the disk's, not the archive's
                raise BobError(
                    f"Cannot unpack {file} into {work} ({error.strerror}). Make room, or put right "
                    "what is in the way, and give the same command again: it was kept."
                ) from None
            raise ArchiveRefused(
                f"Cannot unpack {name} ({error}): it is cut off or damaged. It was thrown away; "
                "give the same command again."
            ) from None
        if flatten:
            fresh = _flat(fresh, work / "flat", name)
        _share_folders(fresh, work.parent)
        _merge(fresh, to, name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Room:
    """Counts what an archive unpacks to, before it is written.

    Args:
        file: The archive.
        name: As published.
        folder: Where it is unpacked.
    """

    def __init__(self, file: Path, name: str, folder: Path) -> None:
        self._packed = max(1, file.stat().st_size)
        self._name = name
        self._free = shutil.disk_usage(folder).free
        self._total = 0

    def take(self, size: int) -> None:
        """Count a file of an archive.

        Raises:
            BobError: The disk cannot hold all that was counted.
            ArchiveRefused: It is far more than the archive can honestly hold.
        """
        self._total += size
        if self._total > _BOMB_FROM and self._total > _BOMB * self._packed:
            raise ArchiveRefused(
                f"The archive {self._name} has {show_size(self._packed)} and would unpack to "
                f"{show_size(self._total)} or more, which no dataset does. It was thrown away; do "
                "not trust the address it came from."
            )
        if self._total > self._free:
            raise BobError(
                f"The archive {self._name} unpacks to {show_size(self._total)} or more, and the "
                f"disk has {show_size(self._free)} left. Make room or name another data root in "
                "BOB_DATA, and give the same command again: it was kept."
            )


def _unpack(file: Path, ending: str, name: str, fresh: Path) -> None:
    room = _Room(file, name, fresh)
    if ending.endswith(".zip"):
        _unzip(file, name, fresh, room)
    elif ending.endswith(_TAR):
        _untar(file, name, fresh, room)
    elif ending.endswith(".gz"):
        with gzip.open(file) as packed, (fresh / name[: -len(".gz")]).open("wb") as out:
            for block in _blocks(packed):
                room.take(len(block))
                out.write(block)
    else:
        shutil.copyfile(file, fresh / name)


def _blocks(stream: gzip.GzipFile | IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block


def _unzip(file: Path, name: str, fresh: Path, room: _Room) -> None:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            _check_name(info.filename, name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "a link" if kind == stat.S_IFLNK else "no plain file"
                raise _outside(name, f"{info.filename!r} is {what}")
            room.take(info.file_size)
        archive.extractall(fresh)


def _untar(file: Path, name: str, fresh: Path, room: _Room) -> None:
    links: set[PurePosixPath] = set()

    def check(member: tarfile.TarInfo) -> None:
        _check_name(member.name, name)
        own = PurePosixPath(member.name)
        if not links.isdisjoint((own, *own.parents)):
            raise _outside(name, f"{member.name!r} lies behind a link")
        if member.issym() or member.islnk():
            links.add(own)
        room.take(member.size)

    def kept(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        check(member)
        return tarfile.data_filter(member, path)

    with tarfile.open(file) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(fresh, filter=kept)
        else:
            for member in tar:
                check(member)
                _refuse_what_is_no_file(member, name)
                tar.extract(member, fresh, set_attrs=False)
        # a tape ends before its file does: what tells a flipped bit comes last, and is read only so
        rest = tar.fileobj
        while rest is not None and rest.read(_BLOCK):
            pass


def _refuse_what_is_no_file(member: tarfile.TarInfo, name: str) -> None:
    """For a Python that does not look where links lead; hardly a dataset holds any."""
    if member.issym() or member.islnk():
        raise ArchiveRefused(
            f"{name} holds a link, {member.name!r}, and this Python does not tell where it leads. "
            "It was thrown away; take Python 3.11.4, 3.12 or a later one."
        )
    if not (member.isreg() or member.isdir()):
        raise _outside(name, f"{member.name!r} is no plain file")


def _check_name(member: str, name: str) -> None:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts[0:1] and ":" in path.parts[0]):
        raise _outside(name, f"{member!r} lies outside of it")


def _outside(name: str, why: str) -> BobError:
    return ArchiveRefused(
        f"The archive {name} would write outside its folder: {why}. It was thrown away, nothing of "
        "it was kept; do not trust the address it came from."
    )


def _flat(fresh: Path, flat: Path, name: str) -> Path:
    flat.mkdir()
    for path in sorted(fresh.rglob("*")):
        if path.is_file():
            if (flat / path.name).exists():
                raise BobError(f"The archive {name} holds {path.name} twice; unpack it by hand.")
            path.rename(flat / path.name)
    return flat


def _merge(fresh: Path, to: Path, name: str) -> None:
    """Move what was unpacked into a folder; whole folders in one step where they are new."""
    clashes = [
        target
        for path in sorted(fresh.rglob("*"))
        if not path.is_dir() or path.is_symlink()
        if os.path.lexists(target := to / path.relative_to(fresh)) and not _same(path, target)
    ]
    if clashes:
        raise BobError(
            f"{some(clashes)} lies there already and differs from what {name} holds. Nothing was "
            "changed; move it away and give the same command again."
        )
    try:
        if to.is_relative_to(root := data_root()) and to != root:
            make_folder(to.parent, root)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
        _move(fresh, to)
    except OSError as error:
        raise BobError(
            f"Cannot move what {name} holds into {to} ({error}). Put right what is in the way and "
            "give the same command again."
        ) from None


def _share_folders(fresh: Path, root: Path) -> None:
    """Another user of the data root may have more to put into them."""
    for folder, _, _ in os.walk(fresh):
        share(Path(folder), root)


def _same(path: Path, target: Path) -> bool:
    if not (target.is_file() and path.is_file()) or path.stat().st_size != target.stat().st_size:
        return False
    return digest_of_file(path) == digest_of_file(target)


def _move(fresh: Path, to: Path) -> None:
    if fresh.is_dir() and to.is_dir():
        for path in sorted(fresh.iterdir()):
            _move(path, to / path.name)
    else:
        os.replace(fresh, to)
