"""Archives, unpacked so that nothing is written outside their folder and nothing is lost."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from bob.errors import BobError, some
from bob.hashing import digest_of_file

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SHORT = (EOFError, OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def place(file: Path, name: str, to: Path, *, work: Path, flatten: bool = False) -> None:
    """Put a downloaded file where it belongs: an archive's content, or the file itself.

    It is unpacked beside the data and moved when all of it is there.

    Args:
        file: What was downloaded; it is left as it is.
        name: As published; its ending says what it is.
        to: Folder that it goes into.
        work: Folder on the same disk for what is half unpacked.
        flatten: Whether files go side by side without the archive's folders.

    Raises:
        BobError: The archive is broken, would write outside its folder, or holds a file that is
            there already with other content.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="unpack-") as folder:
        fresh = Path(folder) / "content"
        fresh.mkdir()
        try:
            _unpack(file, name.lower(), name, fresh)
        except _SHORT as error:
            if isinstance(error, tarfile.FilterError):
                raise _outside(name, str(error)) from None
            full = isinstance(error, OSError) and bool(error.errno)
            hint = (
                "Make room and give the same command again."
                if full
                else "It is cut off or damaged; delete it and give the same command again."
            )
            raise BobError(f"Cannot unpack {file} ({error}). {hint}") from None
        if flatten:
            fresh = _flat(fresh, Path(folder) / "flat", name)
        _merge(fresh, to, name)


def _unpack(file: Path, ending: str, name: str, fresh: Path) -> None:
    if ending.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                _check_name(info.filename, name)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise _outside(name, f"{info.filename!r} is a link")
            archive.extractall(fresh)
    elif ending.endswith(_TAR):
        with tarfile.open(file) as tar:

            def kept(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
                _check_name(member.name, name)
                return tarfile.data_filter(member, path)

            tar.extractall(fresh, filter=kept)
    elif ending.endswith(".gz"):
        with gzip.open(file) as packed, (fresh / name[: -len(".gz")]).open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    else:
        shutil.copyfile(file, fresh / name)


def _check_name(member: str, name: str) -> None:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts[0:1] and ":" in path.parts[0]):
        raise _outside(name, f"{member!r} lies outside of it")


def _outside(name: str, why: str) -> BobError:
    return BobError(
        f"The archive {name} would write outside its folder: {why}. Nothing of it was kept; do not "
        "trust the address it came from."
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
        to.parent.mkdir(parents=True, exist_ok=True)
        _move(fresh, to)
    except OSError as error:
        raise BobError(
            f"Cannot move what {name} holds into {to} ({error}). Put right what is in the way and "
            "give the same command again."
        ) from None


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
